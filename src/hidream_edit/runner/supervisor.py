"""The parent that keeps runners alive."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0  # a runner that lived this long is started again at once


class Supervisor:
    """Starts the command, and starts it again when it dies, later each time.

    The child reads its standard input: when this process is gone, however it went, the child sees the end and drains.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self._command, self._environment = list(command), dict(environment or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self.deaths = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the child runs right now."""
        child = self._child
        return child is not None and child.poll() is None

    def drain(self) -> None:
        """Tell the child to finish what it has."""
        self._tell(signal.SIGTERM)

    def hurry(self) -> None:
        """Tell the child to hand its job back. A signal of its own: two equal ones may arrive as one."""
        self._tell(signal.SIGUSR1)

    def _tell(self, number: signal.Signals) -> None:
        self._ending.set()
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                self._child.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether the child has ended within ``seconds``."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def kill(self) -> None:
        """End the child now; its job goes back to the line when its lease is over."""
        self._ending.set()
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                self._child.kill()
        self._thread.join()

    def _run(self) -> None:
        tries = 0
        while not self._ending.is_set():
            began = time.monotonic()
            with self._lock:
                if self._ending.is_set():
                    return
                self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=os.environ | self._environment)  # noqa: S603 - our own program
            code = self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()
            if self._ending.is_set():
                return
            self.deaths += 1
            tries = 0 if time.monotonic() - began > STEADY_SECONDS else tries + 1
            pause = BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS)) - 1] if tries else 0.0
            logger.error("the runner ended with %s; starting it again in %s seconds", code, pause)
            self._ending.wait(pause)


class Supervisors:
    """Several children, each kept alive for itself, told and ended together."""

    def __init__(self, supervisors: Iterable[Supervisor]) -> None:
        self._all = tuple(supervisors)

    def start(self) -> None:
        """Begin."""
        for one in self._all:
            one.start()

    @property
    def is_alive(self) -> bool:
        """Whether any child runs right now."""
        return any(one.is_alive for one in self._all)

    def drain(self) -> None:
        """Tell all to finish what they have."""
        for one in self._all:
            one.drain()

    def hurry(self) -> None:
        """Tell all to hand their jobs back."""
        for one in self._all:
            one.hurry()

    def wait(self, seconds: float) -> bool:
        """Whether all have ended within ``seconds``."""
        until = time.monotonic() + seconds
        ended = [one.wait(max(0.0, until - time.monotonic())) for one in self._all]
        return all(ended)

    def kill(self) -> None:
        """End all now."""
        for one in self._all:
            one.kill()
