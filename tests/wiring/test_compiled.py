"""Where compiled code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hidream_edit.wiring.runner import keep_compiled_code

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def test_a_runner_keeps_compiled_code_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    keep_compiled_code(tmp_path)
    assert os.environ[VARIABLE] == str(tmp_path / "compiled")
    asked = "from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(tmp_path / "compiled")


def test_a_folder_that_the_environment_names_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "elsewhere")
    keep_compiled_code(tmp_path)
    assert os.environ[VARIABLE] == "elsewhere"
