"""What a runner tells torch before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hidream_edit.wiring.runner import prepare_for_torch

FOLDER, WAITING = "TORCHINDUCTOR_CACHE_DIR", "OMP_WAIT_POLICY"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FOLDER, WAITING):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)


def test_compiled_code_is_kept_in_the_data_folder(tmp_path: Path) -> None:
    prepare_for_torch(tmp_path)
    assert os.environ[FOLDER] == str(tmp_path / "compiled")
    asked = "from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(tmp_path / "compiled")


def test_threads_without_work_sleep(tmp_path: Path) -> None:
    prepare_for_torch(tmp_path)
    assert os.environ[WAITING] == "PASSIVE"


def test_what_the_environment_says_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, "elsewhere")
    monkeypatch.setenv(WAITING, "ACTIVE")
    prepare_for_torch(tmp_path)
    assert (os.environ[FOLDER], os.environ[WAITING]) == ("elsewhere", "ACTIVE")


def test_torch_is_not_imported_before() -> None:
    asked = "import sys, hidream_edit.wiring.runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
