"""The log of the job that a runner works on, written in few commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from hidream_edit.domain.errors import StoreUnavailable
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import EventLevel, Job, NewEvent

FLUSH_SECONDS = 0.05


class JobCancelled(Exception):
    """The caller asked, between two steps."""


class JobLog:
    """Keeps lines for a moment, so that quick steps do not cost a commit each. What is still here when the job ends
    goes into the store together with the end; what is said after that is dropped. Any thread may say something."""

    def __init__(self, store: JobStore, job: Job, lease: str, clock: Callable[[], float]) -> None:
        self._store, self._job, self._lease, self._clock = store, job, lease, clock
        self._lock = threading.Lock()  # around the lines
        self._writing = (
            threading.Lock()
        )  # around a write, so that lines are stored in the order in which they were said
        self._waiting: list[NewEvent] = []
        self._flushed_at = time.monotonic()
        self._is_cancelled = False
        self.has_ended = False

    def say(self, message: str, level: EventLevel = EventLevel.INFO, **facts: Any) -> None:
        """One line."""
        with self._lock:
            if not self.has_ended:
                self._waiting.append(NewEvent(self._clock(), message, level, facts))

    def flush(self, *, at_once: bool = False) -> None:
        """Write what waits, if it has waited long enough; keep it while the store does not answer, or while another
        thread writes and this is not to be done ``at_once``.

        Raises:
            JobCancelled: somebody asked for it in the meantime.
            LeaseLost: the job is no longer this runner's.
        """
        if self._is_cancelled:
            raise JobCancelled
        is_time = at_once or time.monotonic() - self._flushed_at >= FLUSH_SECONDS
        if not self._waiting or not is_time or not self._writing.acquire(blocking=at_once):
            return
        try:
            self._write()
        finally:
            self._writing.release()
        if self._is_cancelled:
            raise JobCancelled

    def _write(self) -> None:
        events = self._taken()
        if not events:
            return
        try:
            is_cancelled = self._store.append_events(self._job.id, self._lease, events)
        except StoreUnavailable:
            with self._lock:
                self._waiting = events + self._waiting
            return
        self._is_cancelled = self._is_cancelled or is_cancelled

    def _taken(self) -> list[NewEvent]:
        with self._lock:
            events, self._waiting, self._flushed_at = self._waiting, [], time.monotonic()
            return events

    def end(self) -> list[NewEvent]:
        """The last lines, for whoever writes the end."""
        with self._writing:
            with self._lock:
                self.has_ended = True
            return self._taken()
