"""Claim → edit → save → complete, told top-down."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hidream_edit.domain.edit_request import EditDone, EditEngine, EditRequest, EditStarted, StepDone
from hidream_edit.domain.errors import FetchFailed, InputInvalid, LeaseLost, StoreUnavailable
from hidream_edit.domain.interfaces import BlobStore, JobStore, RunnerFacts, RunnerState
from hidream_edit.domain.job import EventLevel, Failure, Job, NewEvent
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.decode import decode
from hidream_edit.pictures.encode import encode
from hidream_edit.runner.heartbeat import Heartbeat
from hidream_edit.runner.job_log import JobCancelled, JobLog

logger = logging.getLogger(__name__)

PREVIEW_KEEP_SECONDS, PREVIEW_SECONDS_BETWEEN = 300.0, 0.25
RETRY_SECONDS = 0.2
BROKEN = Failure("internal_server_error", "the edit failed; the server's log says why")
UNCHECKED = "no safety checker is installed: the pictures were not checked"


class HandedBack(Exception):
    """This process is about to end; another runner may go on with the job."""


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How long a silent runner keeps a job, and how often it says that it is alive."""

    lease_seconds: float = 30.0
    heartbeat_seconds: float = 5.0
    look_seconds: float = 1.0  # for work, where nothing wakes it before


class Runner:
    """Works on one job at a time until it is told to stop."""

    def __init__(
        self,
        store: JobStore,
        blobs: BlobStore,
        engine: EditEngine,
        read_source: Callable[[str], bytes],
        *,
        limits: RunnerLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.id = f"runner-{uuid.uuid4().hex[:12]}"
        self._store, self._blobs, self._engine, self._read_source = store, blobs, engine, read_source
        self._limits, self._clock = limits or RunnerLimits(), clock
        self._draining, self._hurry = threading.Event(), threading.Event()
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

    def _announce(self) -> None:
        state = RunnerState.DRAINING if self._draining.is_set() else RunnerState.READY
        self._store.announce(RunnerFacts(self.id, state, self._engine.name, self._clock(), self._engine.defaults))

    def run(self) -> None:
        """Work until `drain`."""
        self._announce()
        with self._heartbeat:
            while not self._draining.is_set():
                try:
                    revision = self._store.revision()
                    job = self._store.claim(
                        runner_id=self.id, now=self._clock(), lease_seconds=self._limits.lease_seconds
                    )
                    if job is None:
                        self._store.wait(revision, seconds_max=self._limits.look_seconds)
                    else:
                        self.work_on(job)
                except StoreUnavailable:
                    # The job, if there was one, is another attempt's when its lease is over.
                    logger.exception("the store does not answer")
                    self._draining.wait(self._limits.look_seconds)
        with contextlib.suppress(StoreUnavailable):
            self._store.dismiss(self.id)

    def work_on(self, job: Job) -> None:
        """Bring one job to its end; whatever goes wrong with it harms no other."""
        lease = str(job.lease_token)
        self._heartbeat.watch(lease)
        log = JobLog(self._store, job, lease, self._clock)
        store = self._store
        try:
            output = self._edited(job, log)
            self._end(log, lambda events: store.complete(job.id, lease, output, now=self._clock(), events=events))
        except StoreUnavailable:
            raise
        except LeaseLost:
            logger.warning("lost the lease of %s", job.id)
        except JobCancelled:
            self._end(log, lambda events: store.stop(job.id, lease, now=self._clock(), events=events))
        except HandedBack:
            self._end(log, lambda events: store.hand_back(job.id, lease, now=self._clock(), events=events))
        except InputInvalid as wrong:
            self._fail(job, lease, log, Failure(wrong.kind, str(wrong), wrong.field, wrong.context))
        except FetchFailed as unreachable:
            self._fail(job, lease, log, Failure("file_download_error", str(unreachable), "image_url"))
        except Exception:
            # Whatever an engine raises ends this job, not this process.
            logger.exception("the edit failed", extra={"job_id": job.id})
            self._fail(job, lease, log, BROKEN)
        finally:
            self._heartbeat.forget(lease)

    def _fail(self, job: Job, lease: str, log: JobLog, failure: Failure) -> None:
        self._end(log, lambda events: self._store.fail(job.id, lease, failure, now=self._clock(), events=events))

    def _end(self, log: JobLog, write: Callable[[Sequence[NewEvent]], object]) -> None:
        """Write how a job ended. A store that does not answer may be back before the lease is over, and the work of
        minutes need not be done again."""
        events, until = log.take(), time.monotonic() + self._limits.lease_seconds
        while True:
            try:
                write(events)
            except LeaseLost as lost:
                logger.warning("lost the lease of %s", lost.job_id)
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                logger.warning("the store does not answer; trying again to write how a job ended")
                time.sleep(RETRY_SECONDS)
                continue
            return

    def _edited(self, job: Job, log: JobLog) -> Mapping[str, Any]:
        request = EditRequest.from_json(job.input)
        began = time.monotonic()
        log.say(f"attempt {job.attempt} on {self._engine.name}")
        if request.ignored_fields:
            unknown = ", ".join(request.ignored_fields)
            log.say(f"ignored, since this endpoint does not know them: {unknown}", EventLevel.WARN)
        source = decode(self._read_source(request.image_url))
        decoded = time.monotonic()
        log.say(f"source read: {source.width}x{source.height}", seconds=round(decoded - began, 3))
        started, pictures = self._driven(job, request, source, log)
        edited = time.monotonic()
        # Pictures are saved before the job is completed: a crash in between repeats work, whereas the other order
        # could announce pictures that do not exist.
        images = [self._stored(job, request, started, index, one) for index, one in enumerate(pictures)]
        return {
            "images": images,
            "timings": {"inference": round(edited - decoded, 4)},
            "seed": started.settings.seed,
            "has_nsfw_concepts": [] if request.enable_safety_checker else [False] * len(images),
            "prompt": started.prompt,
            "sync_mode": request.sync_mode,
        }

    def _driven(
        self, job: Job, request: EditRequest, source: Picture, log: JobLog
    ) -> tuple[EditStarted, tuple[Picture, ...]]:
        """Run the engine to its end, telling each step."""
        started: EditStarted | None = None
        pictures: tuple[Picture, ...] = ()
        previewed, step_began = 0.0, time.monotonic()
        for progress in self._engine.edit(source, request.edit_input):
            if self._hurry.is_set():
                raise HandedBack
            if isinstance(progress, EditStarted):
                started, step_began = progress, time.monotonic()
                for warning in progress.warnings:
                    log.say(warning, EventLevel.WARN)
                if request.enable_safety_checker:
                    log.say(UNCHECKED, EventLevel.WARN)
            elif isinstance(progress, StepDone):
                seconds, step_began = time.monotonic() - step_began, time.monotonic()
                facts: dict[str, Any] = {"step": progress.steps_done, "of": progress.steps_total}
                if job.wants_previews and step_began - previewed >= PREVIEW_SECONDS_BETWEEN:
                    previewed = step_began
                    facts["preview"] = self._preview(progress)
                log.say(f"step {progress.steps_done} of {progress.steps_total}", seconds=round(seconds, 4), **facts)
            elif isinstance(progress, EditDone):
                pictures = progress.pictures
            log.flush()
        if started is None:
            raise RuntimeError("the engine ended without an edit")
        return started, pictures

    def _stored(
        self, job: Job, request: EditRequest, started: EditStarted, index: int, picture: Picture
    ) -> dict[str, Any]:
        about = {
            "software": "hidream-edit",
            "model": self._engine.name,
            "seed": started.settings.seed_of_image(index),
            "settings": started.settings.as_json(),
        }
        data = encode(picture, request.output_format, about=about)
        content_type = f"image/{request.output_format}"
        facts = self._blobs.put(iter([data]), content_type, now=self._clock(), keep_seconds=job.keep_seconds)
        return {"blob": facts.id, "width": picture.width, "height": picture.height, "content_type": content_type}

    def _preview(self, progress: StepDone) -> str:
        data = encode(progress.preview(), "jpeg")
        return self._blobs.put(iter([data]), "image/jpeg", now=self._clock(), keep_seconds=PREVIEW_KEEP_SECONDS).id
