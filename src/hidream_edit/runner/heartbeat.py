"""Keeps leases alive while the engine works."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

from hidream_edit.domain.interfaces import JobStore

logger = logging.getLogger(__name__)


class Heartbeat:
    """A thread that extends all watched leases in one write, every few seconds."""

    def __init__(
        self,
        store: JobStore,
        lease_seconds: float,
        every_seconds: float,
        clock: Callable[[], float],
        announce: Callable[[], None],
    ) -> None:
        self._announce = announce
        self._store, self._lease_seconds, self._every_seconds, self._clock = store, lease_seconds, every_seconds, clock
        self._leases: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def watch(self, lease: str) -> None:
        """Keep ``lease`` alive from now on."""
        with self._lock:
            self._leases.add(lease)

    def forget(self, lease: str) -> None:
        """It is over."""
        with self._lock:
            self._leases.discard(lease)

    def beat(self) -> None:
        """Extend now."""
        with self._lock:
            leases = sorted(self._leases)
        self._announce()
        if leases:
            self._store.extend(leases, now=self._clock(), lease_seconds=self._lease_seconds)

    def _run(self) -> None:
        while not self._stopped.wait(self._every_seconds):
            try:
                self.beat()
            except Exception:
                # The lease outlasts several beats; the next one may succeed.
                logger.exception("a heartbeat failed")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
