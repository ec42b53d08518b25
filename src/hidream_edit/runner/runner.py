"""The loop of a runner: one job on the device, those before it being finished and saved, the source of the next being
read."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from hidream_edit.domain.blobs import BlobStore
from hidream_edit.domain.edit_request import EditEngine
from hidream_edit.domain.errors import StoreUnavailable
from hidream_edit.domain.interfaces import JobStore, RunnerFacts, RunnerState
from hidream_edit.domain.job import Job
from hidream_edit.domain.safety import UNCHECKED, SafetyChecker
from hidream_edit.pictures.isolated import Pictures, PicturesHere
from hidream_edit.runner.attempt import Attempt, Tools
from hidream_edit.runner.beside import Beside
from hidream_edit.runner.heartbeat import Heartbeat
from hidream_edit.runner.previews import PreviewTools
from hidream_edit.runner.sources import SourcesAhead
from hidream_edit.telemetry.logs import about
from hidream_edit.telemetry.traces import NO_TRACES, Tracer

logger = logging.getLogger(__name__)

FINISHERS = 2  # pictures that are finished and encoded at once; each holds its source's and its own pixels
BEHIND_MAX = 2  # edits that had their last step and are not saved, beside the one on the device


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How long a silent runner keeps a job, and how often it says that it is alive."""

    lease_seconds: float = 30.0
    heartbeat_seconds: float = 5.0
    look_seconds: float = 1.0  # for work, where nothing wakes it before


class Runner:
    """Edits one job at a time until it is told to stop. While one is edited, the pictures of those before it are
    finished, encoded and saved, and the source of the one that is likely next is read, so that the device does not wait
    for a processor, a disk or a network. Jobs are saved in the order in which they were edited."""

    def __init__(
        self,
        store: JobStore,
        blobs: BlobStore,
        engine: EditEngine,
        read_source: Callable[[str], bytes],
        *,
        pictures: Pictures | None = None,
        safety: SafetyChecker | None = None,
        tells_origin: bool = True,
        limits: RunnerLimits | None = None,
        tracer: Tracer = NO_TRACES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.id = f"runner-{uuid.uuid4().hex[:12]}"
        self._store, self._engine = store, engine
        self._safety = UNCHECKED if safety is None else safety.name
        self._limits, self._clock = limits or RunnerLimits(), clock
        self._draining, self._hurry = threading.Event(), threading.Event()
        pictures = pictures or PicturesHere()
        self._besides = reader, previewer = Beside("reader"), Beside("previewer")
        self._ahead = SourcesAhead(
            store, read_source, pictures, tracer, reader, clock=clock, is_wanted=lambda: not self._draining.is_set()
        )
        previews = PreviewTools(blobs, previewer, clock)
        self._finishers, self._saver = ThreadPoolExecutor(FINISHERS, "finisher"), ThreadPoolExecutor(1, "saver")
        self._tools = Tools(
            store, blobs, engine, read_source, self._ahead, pictures, previews, self._finishers, clock,
            self._limits.lease_seconds, safety, tells_origin, self._hurry, tracer,
        )  # fmt: skip
        self._heartbeat = Heartbeat(
            store, self._limits.lease_seconds, self._limits.heartbeat_seconds, clock, self._announce
        )

    def drain(self) -> None:
        """Take no more jobs; finish the current one."""
        self._draining.set()

    def hurry(self) -> None:
        """Hand the current job back at its next step."""
        self._draining.set()
        self._hurry.set()

    @property
    def state(self) -> RunnerState:
        """What it does, once it was started."""
        return RunnerState.DRAINING if self._draining.is_set() else RunnerState.READY

    def _announce(self) -> None:
        state, engine = self.state, self._engine
        self._store.announce(
            RunnerFacts(
                self.id,
                state,
                engine.name,
                self._clock(),
                engine.defaults,
                engine.device,
                self._safety,
                engine.examples,
                engine.memory_bytes(),
            )
        )

    def run(self) -> None:
        """Work until `drain`."""
        self._announce()
        behind: deque[Future[None]] = deque()
        with self._heartbeat, self._finishers, self._saver:  # ended from the right: savers wait for finishers
            while not self._draining.is_set():
                try:
                    revision = self._store.revision()
                    job = self._store.claim(
                        runner_id=self.id, now=self._clock(), lease_seconds=self._limits.lease_seconds
                    )
                    if job is None:
                        self._ahead.forget()
                        self._store.wait(revision, seconds_max=self._limits.look_seconds)
                        continue
                    attempt = self._edited(job)
                    behind.append(self._saver.submit(self._finished, attempt))
                    if len(behind) > BEHIND_MAX:
                        wait([behind.popleft()])  # whoever edits faster than it can save has to wait
                except StoreUnavailable:
                    logger.exception("the store does not answer")
                    self._draining.wait(self._limits.look_seconds)
        for beside in self._besides:
            beside.close()
        with contextlib.suppress(StoreUnavailable):
            self._store.dismiss(self.id)

    def work_on(self, job: Job) -> None:
        """Bring one job to its end; whatever goes wrong with it harms no other."""
        self._finished(self._edited(job))

    def _edited(self, job: Job) -> Attempt:
        attempt = Attempt(job, self._tools)
        self._heartbeat.watch(attempt.lease)
        with about(job_id=job.id):
            attempt.edit()
        self._ahead.stop_looking()
        return attempt

    def _finished(self, attempt: Attempt) -> None:
        try:
            with about(job_id=attempt.job_id):
                attempt.finish()
        except StoreUnavailable:
            logger.exception("the end of a job could not be written; another attempt will follow")
        finally:
            self._heartbeat.forget(attempt.lease)
