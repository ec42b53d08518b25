"""What is known of jobs right now, kept in memory by following the store's changes.

Status polls come ten times a second and more from every waiting client; they are answered from here and cost no query.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import Job, JobState

logger = logging.getLogger(__name__)

JOBS_KEPT = 20_000
LOOK_SECONDS, LINE_SECONDS = 0.2, 0.25
RETRY_SECONDS = 1.0


class Watcher:
    """A thread that follows the store, and coroutines that follow single jobs.

    `start` is called in the event loop that the coroutines run in.
    """

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._positions: dict[str, int] = {}
        self._line_read_at, self._line_is_old = 0.0, True
        self._arrived: dict[str, int] = {}  # queued jobs that came after the line was read, and their places behind it
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._revision = store.revision()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread; coroutines that follow a job stay as they are."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._store.wait(self._revision, seconds_max=LOOK_SECONDS)
                self._take_in()
            except Exception:
                # Without the store nothing is known, but it may come back; who waits keeps waiting.
                logger.exception("following the store failed")
                self._stopped.wait(RETRY_SECONDS)

    def _take_in(self) -> None:
        while changed := self._store.changed_since(self._revision):
            self._revision = changed[-1].revision
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop closed in the meantime
                    self._loop.call_soon_threadsafe(self._publish, changed)

    def _publish(self, changed: list[Job]) -> None:
        for job in changed:
            self._remember(job)
            for event in self._followers.get(job.id, ()):
                event.set()

    def _remember(self, job: Job) -> None:
        known = self._jobs.get(job.id)
        if known is None or known.state is not job.state:
            self._line_is_old = True
            if job.state is JobState.QUEUED and job.id not in self._positions:
                self._arrived.setdefault(job.id, len(self._arrived))
        if known is None or known.revision <= job.revision:
            # Inputs may be megabytes, and nobody who follows a job needs them.
            self._jobs[job.id] = replace(job, input={}) if job.input else job
            self._jobs.move_to_end(job.id)
        while len(self._jobs) > JOBS_KEPT:
            self._jobs.popitem(last=False)

    async def get(self, job_id: str) -> Job:
        """The job as far as this process has seen it; read from the store only when it is not in memory.

        Raises:
            JobNotFound: no such job, or its time is over.
        """
        job = self._jobs.get(job_id)
        if job is None:
            job = await asyncio.to_thread(self._store.get, job_id)
            self._remember(job)
        if job.finished_at is not None and job.finished_at + job.keep_seconds <= self._clock():
            self._jobs.pop(job_id, None)
            raise JobNotFound(job_id)
        return job

    def seen(self, job: Job) -> None:
        """Take in a job that this process has just written."""
        self._publish([job])

    async def position(self, job_id: str) -> int:
        """How many jobs are ahead in the line; from a snapshot that is at most a quarter of a second old.

        A job that came after the snapshot is taken to stand behind it, in the order of arrival.
        """
        now = time.monotonic()
        if self._line_is_old and now - self._line_read_at > LINE_SECONDS:
            self._line_read_at, self._line_is_old = now, False
            line = await asyncio.to_thread(self._store.line)
            self._positions = {waiting.id: place for place, waiting in enumerate(line)}
            self._arrived.clear()
        place = self._positions.get(job_id)
        return len(self._positions) + self._arrived.get(job_id, 0) if place is None else place

    async def follow(self, job_id: str, *, idle_seconds: float) -> AsyncIterator[Job | None]:
        """The job now and after each change, to its end; None when nothing changed for ``idle_seconds``.

        Changes that come faster than they are read are joined: a slow reader sees fewer, never old ones.

        Raises:
            JobNotFound: no such job.
        """
        event = asyncio.Event()
        followers = self._followers.setdefault(job_id, set())
        followers.add(event)
        try:
            job = await self.get(job_id)
            yield job
            while not job.state.is_final:
                try:
                    await asyncio.wait_for(event.wait(), idle_seconds)
                except TimeoutError:
                    yield None
                    continue
                event.clear()
                current = await self.get(job_id)
                if current.revision > job.revision:
                    job = current
                    yield job
        finally:
            followers.discard(event)
            if not followers:
                self._followers.pop(job_id, None)

    async def finished(self, job_id: str) -> Job:
        """The job in its final state."""
        async for job in self.follow(job_id, idle_seconds=60):
            if job is not None and job.state.is_final:
                return job
        raise AssertionError("a job is followed to its end")

    def counts(self) -> dict[JobState, int]:
        """How many of the jobs in memory are in each state."""
        totals = dict.fromkeys(JobState, 0)
        for job in self._jobs.values():
            totals[job.state] += 1
        return totals
