"""Real processes: the server as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from tests.conftest import SECRET

APP = "/fal-ai/hidream-e1-full"
SECONDS_MAX = 60.0


class Process:
    """``hidream-edit serve``: of this environment and with the engine that has no weights, if nothing else is said."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        program: Sequence[str] = (sys.executable, "-m", "hidream_edit"),
        model: str = "null",
        **environment: str,
    ) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*program, "serve", "--model", model, "--port", "0", *options, "--data", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        )
        self.printed: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_for(lambda: any("serves" in line for line in self.printed) or self.process.poll() is not None)
        found = re.search(r"https?://[\d.]+:\d+", "".join(self.printed))
        assert found is not None, self.printed
        self.url = found[0]
        self.client = httpx.Client(base_url=self.url, timeout=SECONDS_MAX)

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.printed.extend(self.process.stdout)

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.client.get("/health/ready").status_code == 200)

    def runner_pid(self) -> int:
        listed = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], text=True)
        return int(listed.split()[0])

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert not [line for line in self.printed if SECRET.search(line)]


def wait_for(condition: Callable[[], bool], seconds: float = SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a server; all of them share one data folder."""
    started: list[Process] = []

    def begin(*options: str, **environment: str) -> Process:
        started.append(Process(tmp_path / "data", *options, **environment))
        return started[-1]

    yield begin
    for process in started:
        process.close()
