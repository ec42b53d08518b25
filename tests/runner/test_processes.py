"""The parent of a runner, and the signs of life of a runner."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hidream_edit.domain.job import NewJob
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.runner import supervisor as module
from hidream_edit.runner.heartbeat import Heartbeat
from hidream_edit.runner.supervisor import Supervisor


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_child_that_dies_is_started_again_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.01, 0.05))
    supervisor = Supervisor(command("raise SystemExit(1)"))
    supervisor.start()
    wait_for(lambda: supervisor.deaths >= 3)
    supervisor.kill()


def test_a_drained_child_is_not_started_again(tmp_path: Path) -> None:
    sign = tmp_path / "started"
    supervisor = Supervisor(command(f"open({str(sign)!r}, 'a').write('x'); import time; time.sleep(60)"))
    supervisor.start()
    wait_for(sign.exists)
    assert supervisor.is_alive
    supervisor.drain()
    assert supervisor.wait(20)
    assert not supervisor.is_alive
    assert sign.read_text() == "x"


def test_a_child_in_a_hurry_gets_a_signal_of_its_own(tmp_path: Path) -> None:
    sign = tmp_path / "how"
    code = (
        "import signal, sys, time\n"
        f"def end(number, _): open({str(sign)!r}, 'w').write(str(number)); sys.exit()\n"
        "signal.signal(signal.SIGUSR1, end)\n"
        f"open({str(tmp_path / 'up')!r}, 'w').close()\n"
        "time.sleep(60)"
    )
    supervisor = Supervisor(command(code))
    supervisor.start()
    wait_for((tmp_path / "up").exists)
    supervisor.hurry()
    assert supervisor.wait(20)
    assert sign.read_text() == str(int(module.signal.SIGUSR1))


def test_a_child_knows_what_the_list_of_processes_does_not_show(tmp_path: Path) -> None:
    sign = tmp_path / "secret"
    code = f"import os; open({str(sign)!r}, 'w').write(os.environ['SECRET']); import time; time.sleep(60)"
    supervisor = Supervisor(command(code), environment={"SECRET": "s3"})
    supervisor.start()
    wait_for(lambda: sign.exists() and sign.read_text() == "s3")
    supervisor.kill()


def test_a_heartbeat_extends_what_is_watched_and_announces_the_runner(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite3", synchronous="normal")
    for name in "ab":
        store.submit(NewJob(id=name, caller="c", input={}), now=0)
    leases = {}
    for _ in "ab":
        job = store.claim(runner_id="r", now=0, lease_seconds=10)
        assert job is not None
        leases[job.id] = str(job.lease_token)
    announced: list[int] = []
    heartbeat = Heartbeat(store, 10, 0.01, lambda: 5.0, lambda: announced.append(1))
    heartbeat.watch(leases["a"])
    with heartbeat:
        wait_for(lambda: len(announced) > 2)
    assert store.get("a").lease_expires_at == 15
    assert store.get("b").lease_expires_at == 10
    heartbeat.forget(leases["a"])
    heartbeat.beat()
    store.close()


def test_a_heartbeat_that_fails_once_goes_on(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite3", synchronous="normal")
    calls: list[int] = []

    def announce() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("gone")

    with Heartbeat(store, 10, 0.01, lambda: 5.0, announce):
        wait_for(lambda: len(calls) > 2)
    store.close()
