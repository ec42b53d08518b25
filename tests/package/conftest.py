"""Wheel and sdist as they are uploaded, and commands away from the source tree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image
from scripts.package import ROOT, build, copy_tracked

PHOTO = ROOT / "examples" / "photo.jpg"
INSTRUCTION = "turn it into a snowy winter day"


class Built(NamedTuple):
    wheel: Path  # made from the sdist
    sdist: Path
    direct: Path  # made from the files themselves
    tracked: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("package")
    tracked = copy_tracked(folder / "tracked")
    build(tracked, folder / "dist")
    build(tracked, folder / "direct", "--wheel")
    return Built(
        next((folder / "dist").glob("*.whl")),
        next((folder / "dist").glob("*.tar.gz")),
        next((folder / "direct").glob("*.whl")),
        tracked,
    )


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """What a command prints, away from the source tree and from what measures its coverage."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "COVERAGE_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=clean | environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_edited(result: Path, source: Path = PHOTO) -> None:
    """The source's size, and other pixels."""
    with Image.open(result) as picture, Image.open(source) as photo:
        assert picture.size == photo.size
        assert picture.convert("RGB").tobytes() != photo.convert("RGB").tobytes()
