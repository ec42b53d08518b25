"""How long the database takes, as this process sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

READ, WRITE = "read", "write"


def _nobody(_: str, __: float) -> None:
    """Nobody listens."""


class Stopwatch:
    """Tells each read, and each transaction as a whole: with its wait in the line, and with what is read inside."""

    def __init__(self) -> None:
        self.tell: Callable[[str, float], None] = _nobody
        self._here = threading.local()

    @contextmanager
    def times(self, kind: str) -> Iterator[None]:
        """Time what happens inside, unless this thread is being timed already."""
        if getattr(self._here, "is_running", False):
            yield
            return
        self._here.is_running, began = True, time.perf_counter()
        try:
            yield
        finally:
            self._here.is_running = False
            self.tell(kind, time.perf_counter() - began)
