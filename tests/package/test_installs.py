"""Wheel and sdist from nothing: an empty environment, pip and its index, and the commands that users type.

pip resolves every dependency under the constraints file and makes the sdist's wheel itself, with a builder that it
fetches. That takes a minute for each, and only the index that pip is configured for is asked: `make test-install`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.package import ROOT
from tests.acceptance.conftest import Process
from tests.package.conftest import INSTRUCTION, PHOTO, Built, assert_edited, run
from tests.support import sentencepiece_folder

pytestmark = pytest.mark.installs


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of programs of an environment into which pip installed the file, and what it asks for."""
    file: Path = getattr(built, request.param)
    venv = tmp_path_factory.mktemp(request.param) / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--constraint", constraints, f"{file}[engine,serve]"], venv.parent)
    run([*pip, "check"], venv.parent)
    yield python.parent
    shutil.rmtree(venv)  # over a gigabyte


def test_what_runs_is_the_installed_file(installed: Path, built: Built, tmp_path: Path) -> None:
    code = "import json, hidream_edit; from importlib.metadata import distribution; "
    code += "told = json.loads(distribution('hidream-edit').read_text('direct_url.json')); "
    code += "print(json.dumps([hidream_edit.__file__, told['url']]))"
    where, origin = json.loads(run([installed / "python", "-c", code], tmp_path))
    assert Path(where).is_relative_to(installed.parent)
    assert origin in {built.wheel.as_uri(), built.sdist.as_uri()}
    assert installed.parent.parent.name.startswith("sdist") == origin.endswith(".tar.gz")


def test_nothing_of_the_development_environment_is_there(installed: Path, tmp_path: Path) -> None:
    code = "from importlib.util import find_spec; print([n for n in ('pytest', 'hatchling', 'tests') if find_spec(n)])"
    assert run([installed / "python", "-c", code], tmp_path) == "[]\n"


def test_what_the_mini_model_does_without_is_there_for_the_real_one(installed: Path, tmp_path: Path) -> None:
    sentencepiece_folder.write(tmp_path / "t5")
    assert run([installed / "python", "-c", sentencepiece_folder.READ], tmp_path) == sentencepiece_folder.SAID


def test_the_command_edits_a_photograph_with_the_mini_model(installed: Path, tmp_path: Path) -> None:
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    run([installed / "hidream-edit", "edit", "photo.jpg", INSTRUCTION, "-o", "out.png"], tmp_path)
    assert_edited(tmp_path / "out.png")


def test_the_command_serves_the_mini_model(installed: Path, tmp_path: Path) -> None:
    program = str(installed / "hidream-edit")
    server = Process(tmp_path / "data", program=[program], model="mini", PYTHONPATH="")
    try:
        server.wait_until_ready()
        edit = [program, "edit", PHOTO, INSTRUCTION, "--server", server.url, "--output", "out.png"]
        run(edit, tmp_path)
    finally:
        server.close()
    assert_edited(tmp_path / "out.png")
