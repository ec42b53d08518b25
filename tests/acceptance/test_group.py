"""Several devices as one runner, with real processes: `serve` with groups, and what happens when a rank dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.conftest import APP, Process, wait_for
from tests.acceptance.test_serve import an_input, status

ENDS_SECONDS = 30.0  # promised of a group that lost a rank
LEASE = {"HIDREAM_EDIT_SERVER_LEASE_SECONDS": "1", "HIDREAM_EDIT_SERVER_HEARTBEAT_SECONDS": "0.2"}
RANK = "hidream_edit.engine.parallel.rank"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes keep what is not for long."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def group(tiny_folder: Path, temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server with one runner of two ranks on this CPU."""
    options = ("--model", str(tiny_folder), "--devices", "cpu,cpu", "--devices-per-edit", "2")
    server = Process(
        tmp_path_factory.mktemp("group") / "data", *options, **LEASE, OMP_NUM_THREADS="1", TMPDIR=str(temporary)
    )
    server.wait_until_ready()
    yield server
    processes = everybody(server)
    server.signal()
    assert server.process.wait(timeout=30) == 0
    wait_for(lambda: not any(map(lives, processes)), seconds=10)
    assert meeting_folders(temporary) == []
    server.close()


def children(process: int, *, named: str = "") -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(process)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if named in line]


def everybody(server: Process) -> list[int]:
    """The runner and the other rank."""
    runner = server.runner_pid()
    return [runner, *children(runner, named=RANK)]


def meeting_folders(temporary: Path) -> list[Path]:
    return [*temporary.glob("*hidream-edit-ranks-*")]


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def begun(server: Process, steps: int = 50) -> str:
    """An edit that is at its second step or later."""
    edit = {**an_input(steps), "output_format": "png", "seed": 3}
    request_id = str(server.client.post(f"/queue{APP}", json=edit).json()["request_id"])

    def has_begun() -> bool:
        log = server.client.get(f"{APP}/requests/{request_id}/status?logs=1").json().get("logs") or []
        return any(entry["message"].startswith("step") for entry in log)

    wait_for(has_begun)
    return request_id


def picture_of(server: Process, request_id: str) -> bytes:
    answer = server.client.get(f"{APP}/requests/{request_id}").json()
    return server.client.get(answer["images"][0]["url"]).content


def test_a_group_is_one_runner_that_says_all_its_devices(group: Process) -> None:
    assert len(children(group.process.pid, named=" runner ")) == 1
    assert len(children(group.runner_pid(), named=RANK)) == 1
    assert group.client.get("/v1/about").json()["model"]["device"] == "cpu, cpu"


def test_a_cancelled_edit_ends_and_the_group_goes_on(group: Process) -> None:
    request_id = begun(group)
    assert group.client.put(f"{APP}/requests/{request_id}/cancel").status_code == 202
    assert group.client.post(APP, json=an_input(1)).status_code == 200
    log = group.client.get(f"{APP}/requests/{request_id}/status?logs=1").json().get("logs") or []
    assert sum(entry["message"].startswith("step") for entry in log) < 50


@pytest.mark.parametrize("rank", [1, 0])
def test_whichever_rank_dies_the_group_ends_comes_back_and_finishes_the_edit(
    group: Process, temporary: Path, rank: int
) -> None:
    processes = everybody(group)
    request_id = begun(group)
    os.kill(processes[rank], signal.SIGKILL)
    wait_for(lambda: not any(map(lives, processes)), seconds=ENDS_SECONDS)
    wait_for(lambda: status(group, request_id) == "COMPLETED")
    assert len(meeting_folders(temporary)) == 1
    assert not set(everybody(group)) & set(processes)
    again = group.client.post(APP, json={**an_input(50), "output_format": "png", "seed": 3}).json()
    assert group.client.get(again["images"][0]["url"]).content == picture_of(group, request_id)
