"""Work beside the edits, of which only the newest matters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0


class Beside:
    """A thread and one place to wait: work that is given takes the place of work that waits.

    So whoever gives never waits, and a thread that is behind leaves out what is old. The thread begins with the first
    work and does not keep the process alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def give(self, work: Callable[[], object]) -> None:
        """Do ``work`` as soon as what is being done is done; what it raises goes to the log."""
        with self._changed:
            if self._is_closed:
                return
            self._waiting = work
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Leave out what waits, and wait a moment for what is being done."""
        with self._changed:
            self._is_closed, self._waiting = True, None
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:
                # Nothing here is owed to anybody: the edit goes on without it.
                logger.exception("work of the thread %s failed", self._name)

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_closed)
            work, self._waiting = self._waiting, None
            return work
