"""What users install: built from the tracked files, and used away from them.

No index is asked. The fresh environment gets the wheel by pip, and as its dependencies links to those distributions of
this environment that the wheel's own metadata asks for, step by step: what it forgets to ask for is missing, torch
among it. That pip itself finds all of it is `test_installs.py`'s question.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image
from scripts.package import ROOT
from tests.acceptance.conftest import Process
from tests.package.conftest import INSTRUCTION, PHOTO, Built, assert_edited, run
from tests.support import sentencepiece_folder

MINI_BYTES_MAX = 24_000_000

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git does not say what is tracked")


def contents(wheel: Path) -> dict[str, str]:
    """Hash by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def needed(first: Distribution, extra: str) -> list[Distribution]:
    """What the metadata of a distribution asks for, and what that asks for."""
    found: dict[str, Distribution] = {}
    waiting = [(first, extra)]
    while waiting:
        asking, its_extra = waiting.pop()
        for line in asking.requires or []:
            wanted = Requirement(line)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": its_extra}):
                continue
            one = distribution(wanted.name)
            if wanted.name.lower() not in found or wanted.extras:
                found[wanted.name.lower()] = one
                waiting += [(one, name) for name in ("", *wanted.extras)]
    return list(found.values())


@pytest.fixture(scope="module")
def client_only(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh(built, "client", tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def with_the_engine(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh(built, "engine", tmp_path_factory.mktemp("fresh"))


def fresh(built: Built, extra: str, folder: Path) -> Path:
    """The folder of programs of an empty environment with the wheel and what it needs with an extra."""
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    programs = venv / "bin"
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(venv), "platbase": str(venv)}))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(programs / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", f"{built.wheel}[{extra}]"], check=True)
    (metadata,) = site.glob("hidream_edit-*.dist-info")
    for one in needed(PathDistribution(metadata), extra):
        for name in {file.parts[0] for file in one.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(str(one.locate_file(name))))
    subprocess.run([*pip, "check"], check=True)
    return programs


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Built) -> None:
    source = built.tracked / "src"
    ours = {str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()}
    names = set(contents(built.wheel))
    facts = {name for name in names if ".dist-info/" in name}
    assert names - facts == ours
    assert {Path(name).name for name in facts} == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE"}
    for kind in (".sql", ".safetensors", "playground/index.html", "py.typed", "mini/defaults.json"):
        assert any(name.endswith(kind) for name in ours), kind


def test_the_sdist_makes_the_same_wheel_as_the_files_themselves(built: Built) -> None:
    assert contents(built.wheel) == contents(built.direct)


def test_the_sdist_holds_what_is_tracked_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {str(file.relative_to(built.tracked)) for file in built.tracked.rglob("*") if file.is_file()}
    assert names - tracked == {"PKG-INFO"}
    left_out = {name for name in tracked - names if not name.startswith(".")}
    assert left_out == set()


def test_the_mini_model_stays_small(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        sizes = [info.file_size for info in archive.infolist() if info.filename.startswith("hidream_edit/mini/")]
    assert 1_000_000 < sum(sizes) < MINI_BYTES_MAX


def test_with_the_client_alone_it_is_imported_without_torch_and_numpy(client_only: Path, tmp_path: Path) -> None:
    code = "import sys, hidream_edit; print(hidream_edit.__file__); hidream_edit.Client; "
    code += "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    where, loaded = run([client_only / "python", "-c", code], tmp_path).splitlines()
    assert Path(where).is_relative_to(client_only.parent)
    assert loaded == "[]"
    there = (
        "from importlib.util import find_spec; print(find_spec('torch'), find_spec('starlette'), find_spec('pytest'))"
    )
    assert run([client_only / "python", "-c", there], tmp_path) == "None None None\n"


def test_with_the_engine_a_t5_that_has_only_its_sentencepiece_model_is_read(
    with_the_engine: Path, tmp_path: Path
) -> None:
    sentencepiece_folder.write(tmp_path / "t5")
    assert run([with_the_engine / "python", "-c", sentencepiece_folder.READ], tmp_path) == sentencepiece_folder.SAID


def test_its_command_says_its_version(client_only: Path, built: Built, tmp_path: Path) -> None:
    said = run([client_only / "hidream-edit", "--version"], tmp_path)
    assert said == f"hidream-edit {built.wheel.name.split('-')[1]}\n"


def test_the_client_alone_edits_with_a_server(client_only: Path, tmp_path: Path) -> None:
    server = Process(tmp_path / "data")
    try:
        server.wait_until_ready()
        command = [client_only / "hidream-edit", "edit", PHOTO, "make it night", "--server", server.url]
        run([*command, "--output", "night.png"], tmp_path)
    finally:
        server.close()
    with Image.open(tmp_path / "night.png") as picture, Image.open(PHOTO) as photo:
        assert picture.size == photo.size


def test_the_code_of_the_wheel_edits_a_photograph_with_its_own_model(built: Built, tmp_path: Path) -> None:
    shutil.unpack_archive(built.wheel, tmp_path / "installed", "zip")
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    path = os.pathsep.join([str(tmp_path / "installed"), *others])
    where = run([sys.executable, "-c", "import hidream_edit as h; print(h.__file__)"], tmp_path, PYTHONPATH=path)
    assert Path(where.strip()).is_relative_to(tmp_path)
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    edit = ["edit", "photo.jpg", INSTRUCTION, "--steps", "4", "--seed", "1", "--device", "cpu"]
    run([sys.executable, "-m", "hidream_edit", *edit, "--output", "snow.png"], tmp_path, PYTHONPATH=path)
    assert_edited(tmp_path / "snow.png")
