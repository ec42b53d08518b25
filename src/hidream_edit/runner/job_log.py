"""The log of the job that a runner works on, written in few commits."""

from __future__ import annotations

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
    goes into the store together with the end."""

    def __init__(self, store: JobStore, job: Job, lease: str, clock: Callable[[], float]) -> None:
        self._store, self._job, self._lease, self._clock = store, job, lease, clock
        self._waiting: list[NewEvent] = []
        self._flushed_at = time.monotonic()

    def say(self, message: str, level: EventLevel = EventLevel.INFO, **facts: Any) -> None:
        """One line."""
        self._waiting.append(NewEvent(self._clock(), message, level, facts))

    def flush(self, *, at_once: bool = False) -> None:
        """Write what waits, if it has waited long enough; keep it while the store does not answer.

        Raises:
            JobCancelled: somebody asked for it in the meantime.
            LeaseLost: the job is no longer this runner's.
        """
        if not self._waiting or not (at_once or time.monotonic() - self._flushed_at >= FLUSH_SECONDS):
            return
        events = self.take()
        try:
            is_cancelled = self._store.append_events(self._job.id, self._lease, events)
        except StoreUnavailable:
            self._waiting = events
            return
        if is_cancelled:
            raise JobCancelled

    def take(self) -> list[NewEvent]:
        """What waits, for whoever writes it now."""
        events, self._waiting, self._flushed_at = self._waiting, [], time.monotonic()
        return events
