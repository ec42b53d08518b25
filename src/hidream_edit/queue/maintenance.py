"""The rescuer and the pruner: what has to happen to jobs when nobody asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from hidream_edit.domain.blobs import BlobStore
from hidream_edit.domain.interfaces import JobStore

logger = logging.getLogger(__name__)

RESCUE_SECONDS, PRUNE_SECONDS = 0.5, 60.0


class Maintenance:
    """A thread that rescues jobs without runner, ends those past their start deadline, and prunes what is old.

    Any number of processes may run it: each move is one transaction.
    """

    def __init__(self, store: JobStore, blobs: BlobStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock
        self._pruned_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def once(self) -> None:
        """Do everything that is due."""
        now = self._clock()
        for job in self._store.rescue(now=now):
            logger.warning("rescued", extra={"job_id": job.id, "state": job.state.value})
        self._store.expire(now=now)
        if now - self._pruned_at >= PRUNE_SECONDS:
            self._pruned_at = now
            self._store.prune(now=now)
            self._blobs.prune(now=now)

    def _run(self) -> None:
        while not self._stopped.wait(RESCUE_SECONDS):
            try:
                self.once()
            except Exception:
                logger.exception("maintenance failed")
