"""Group commit: submits that come at the same time share one commit, and each is answered after it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable

from hidream_edit.domain.interfaces import JobStore, Submit
from hidream_edit.domain.job import Job

logger = logging.getLogger(__name__)

GROUP_MAX = 256
TURN_SECONDS = 0.001  # between two commits: the next group gathers, and other processes get their turn at the database
Pending = tuple[Submit, asyncio.AbstractEventLoop, "asyncio.Future[Job]"]


class Submitter:
    """A thread that stores whatever waits. While one commit is under way, the next group gathers."""

    def __init__(self, store: JobStore, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._line: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, and end."""
        self._line.put(None)
        if self._thread.is_alive():
            self._thread.join()

    async def submit(self, submit: Submit) -> Job:
        """The stored job, after its commit.

        Raises:
            QueueFull: more wait than the submit allows.
            CallerLimited: the caller's quota is used up for now.
        """
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[Job] = loop.create_future()
        self._line.put((submit, loop, stored))
        return await stored

    def _run(self) -> None:
        is_open = True
        while is_open:
            group: list[Pending] = []
            entry = self._line.get()
            while entry is not None and len(group) < GROUP_MAX:
                group.append(entry)
                try:
                    entry = self._line.get_nowait()
                except queue.Empty:
                    break
            else:
                is_open = entry is not None
                if entry is not None:
                    self._line.put(entry)
            if group:
                self._store_group(group)
                time.sleep(TURN_SECONDS)

    def _store_group(self, group: list[Pending]) -> None:
        try:
            outcomes: list[Job | Exception] = [
                *self._store.submit_all([submit for submit, _, _ in group], now=self._clock())
            ]
        except Exception as failure:
            # Nobody was answered, so nothing that was acknowledged is lost.
            logger.exception("a group of submits was not stored")
            outcomes = [failure] * len(group)
        settled = [(stored, outcome) for (_, _, stored), outcome in zip(group, outcomes, strict=True)]
        for loop in {loop for _, loop, _ in group}:
            try:
                loop.call_soon_threadsafe(_settle, [pair for pair in settled if pair[0].get_loop() is loop])
            except RuntimeError:  # the loop ended in the meantime
                logger.warning("submits were stored after their server had stopped")


def _settle(pairs: list[tuple[asyncio.Future[Job], Job | Exception]]) -> None:
    for stored, outcome in pairs:
        if stored.done():
            continue
        if isinstance(outcome, Exception):
            stored.set_exception(outcome)
        else:
            stored.set_result(outcome)
