"""`python -m benchmarks.engine` from its options to the page, with a model that takes no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.engine.__main__ import main
from benchmarks.engine.page import BEGIN, END
from benchmarks.engine.processes import WorkerFailed, started

ROOT = Path(__file__).parents[2]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.engine", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_the_whole_command(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Performance\n\n{BEGIN}\n{END}\n")
    done = run("--cases", "tiny", "--results", str(tmp_path), "--page", str(page))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("bench-engine-*.json")
    results = json.loads(file.read_text())
    (case,) = results["cases"]
    (edit,) = case["edits"]
    names = {"official", "exact", "balanced", "turbo", "floor"}
    assert {name: len(rounds) for name, rounds in edit["rounds"].items()} == dict.fromkeys(names, 2)
    assert edit["differences"]["exact"]["within"] is True
    assert all(answer["peak_bytes"] > 0 for answer in edit["rounds"]["exact"])
    assert [len(sweep["points"]) for sweep in case["sweeps"]] == [3, 2, 2]
    assert all(set(point["seconds"]) == {"official", "exact"} for point in case["sweeps"][0]["points"])
    assert all(set(point["seconds"]) == names - {"floor"} for point in case["sweeps"][2]["points"])
    assert "| ours, exact |" in page.read_text()
    assert (tmp_path / "images" / "engine-growth.svg").is_file()

    again = run("--from", str(file), "--page", str(page))
    assert again.returncode == 0
    assert again.stdout == done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could do it")
def test_the_real_size_is_refused_politely_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--cases", "real", "--results", str(tmp_path)])
    assert main() == 0
    assert "needs a CUDA device" in capsys.readouterr().out


def test_an_unknown_case_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--cases", "mini,maxi"])
    with pytest.raises(SystemExit):
        main()
    assert "no such case: maxi" in capsys.readouterr().err


def test_a_worker_that_dies_says_why() -> None:
    with pytest.raises(WorkerFailed, match="nobody"), started(["nobody"], "tiny", "cpu", 1):
        pass
