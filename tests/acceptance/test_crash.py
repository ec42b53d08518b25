"""The short form of ``make crash``: processes are killed at random moments, on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.postgres import new_database

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crash.py"


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_nothing_is_lost_ended_twice_or_stuck_when_processes_are_killed(database: str) -> None:
    seed = str(int(time.time()))
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "--jobs", "40", "--kills", "10", "--seed", seed]
    if database == "postgres":
        command += ["--database", new_database()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout)
    assert report["acknowledged"] >= 40
    assert sum(report["kills"].values()) == 10
    assert (report["lost"], report["ended twice"], report["stuck"]) == (0, 0, 0)
