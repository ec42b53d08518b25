"""Workers as child processes that answer one question at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TAIL = 2000


class WorkerFailed(RuntimeError):
    """A worker ended without an answer; the message holds the end of what it said."""


class Process:
    """A worker that has been started."""

    def __init__(self, name: str, case: str, device: str, threads: int, said: Path) -> None:
        self._name, self._said = name, said
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.engine.worker", name, case, device, str(threads)]
        with said.open("w") as err:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True, env=environment, cwd=ROOT
            )
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What it told about itself when it was ready."""
        if self._facts is None:
            self._facts = self._heard()
        return self._facts

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to ``question``.

        Raises:
            WorkerFailed: the process ended.
        """
        assert self.facts is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(question) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # why it ended is told below
        return self._heard()

    def close(self) -> None:
        """Let it end."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def _heard(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self._name} ended without an answer:\n{self._said.read_text()[-TAIL:]}")
        return json.loads(line)  # type: ignore[no-any-return]


@contextmanager
def started(names: Sequence[str], case: str, device: str, threads: int) -> Iterator[dict[str, Process]]:
    """Workers of these names, loaded side by side and all ready."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = {}
        for name in names:
            workers[name] = Process(name, case, device, threads, scratch / f"{name}.txt")
            stack.callback(workers[name].close)
        for worker in workers.values():
            assert worker.facts is not None
        yield workers
