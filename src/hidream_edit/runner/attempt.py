"""One attempt at one job: fetch → edit, then save → complete, told top-down."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from hidream_edit.domain.blobs import BlobFacts, BlobStore
from hidream_edit.domain.edit_request import EditDone, EditEngine, EditRequest, EditStarted, ImageMade, StepDone
from hidream_edit.domain.errors import BlobsUnavailable, FetchFailed, InputInvalid, LeaseLost, StoreUnavailable
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import EventLevel, Failure, Job, JobState
from hidream_edit.domain.measures import (
    EDIT_SECONDS,
    ENCODE_SECONDS,
    STEPS_PER_SECOND,
    Measure,
    Observation,
    observed,
    step_group,
)
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Traded
from hidream_edit.domain.safety import SafetyChecker, blackened
from hidream_edit.pictures.encode import encode
from hidream_edit.pictures.isolated import Pictures
from hidream_edit.runner.job_log import JobCancelled, JobLog
from hidream_edit.runner.job_spans import JobSpans
from hidream_edit.runner.previews import Previews, PreviewTools
from hidream_edit.runner.sources import SourcesAhead
from hidream_edit.telemetry.logs import about
from hidream_edit.telemetry.traces import Span, Tracer
from hidream_edit.version import __version__

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 0.2
# A bucket that is down or full is waited for; what minutes of work made is not thrown away.
BLOBS_RETRY_SECONDS, BLOBS_PATIENCE_SECONDS = 1.0, 600.0
AWAY = (BlobsUnavailable, StoreUnavailable)  # bytes of a file are in a folder or a bucket, facts about it in the store
BROKEN = Failure("internal_server_error", "the edit failed; the server's log says why")
UNCHECKED = "no safety checker is installed: the pictures were not checked"
FLAGGED = "the safety checker flagged a picture; it is shown black"
REFUSED = Failure("content_policy_violation", "The picture was flagged by a content checker.", "image_url")


class HandedBack(Exception):
    """This process is about to end; another runner may go on with the job."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What attempts work with."""

    store: JobStore
    blobs: BlobStore
    engine: EditEngine
    read_source: Callable[[str], bytes]
    ahead: SourcesAhead
    pictures: Pictures
    previews: PreviewTools
    finishers: Executor  # threads that finish and encode pictures
    clock: Callable[[], float]
    lease_seconds: float
    safety: SafetyChecker | None
    tells_origin: bool  # whether files say which model, seed and settings made them
    hurry: threading.Event  # set: hand the job back at its next step
    tracer: Tracer


@dataclass(frozen=True, slots=True)
class Made:
    """A picture of the source's size as a file, so that no pixels wait. ``is_flagged`` is None where it was not
    checked."""

    data: bytes
    width: int
    height: int
    is_flagged: bool | None


@dataclass(frozen=True, slots=True)
class Edited:
    """What the engine made: pictures that are being finished."""

    started: EditStarted
    images: list[Future[Made]]
    seconds: float  # on the device
    traded: Traded | None


class Attempt:
    """`edit` needs the device, `finish` does not: the next job may use it meanwhile. An image that had its last step is
    finished and encoded on a thread of its own, while the device goes on with the next image."""

    def __init__(self, job: Job, tools: Tools) -> None:
        self.job_id, self.lease = job.id, str(job.lease_token)
        self._job, self._tools = job, tools
        self._log = JobLog(tools.store, job, self.lease, tools.clock)
        self._spans = JobSpans(tools.tracer, job)
        self._measured: list[Observation] = []  # the threads of previews and finished pictures add to it
        self._request: EditRequest | None = None
        self._images: list[Future[Made]] = []
        self._outcome: Edited | Failure | JobCancelled | HandedBack | LeaseLost | None = None

    def edit(self) -> None:
        """Run the engine; whatever goes wrong is kept for `finish`."""
        try:
            self._request = EditRequest.from_json(self._job.input)
            self._outcome = self._edited(self._request)
        except (JobCancelled, HandedBack, LeaseLost) as told:
            self._outcome = told
        except InputInvalid as wrong:
            self._outcome = Failure(wrong.kind, str(wrong), wrong.field, wrong.context)
        except FetchFailed as unreachable:
            self._outcome = Failure("file_download_error", str(unreachable), "image_url")
        except Exception:
            # Whatever an engine raises ends this job, not this process.
            logger.exception("the edit of %s failed", self._job.id)
            self._outcome = BROKEN
        finally:
            if not isinstance(self._outcome, Edited):
                self._leave_out_images()

    def finish(self) -> None:
        """Save the pictures as soon as they are made, and write how the job ended.

        Raises:
            StoreUnavailable: for longer than the lease; another attempt will follow.
        """
        state: JobState | None = None
        try:
            state = self._ended()
        finally:
            self._spans.end(state)

    def _ended(self) -> JobState | None:
        """In which state the job is now; None where it is not ours any more."""
        store, job, outcome = self._tools.store, self._job, self._outcome
        if isinstance(outcome, Edited):
            try:
                output = self._saved(outcome)
            except (JobCancelled, HandedBack, LeaseLost) as told:
                outcome = told
            except Exception:
                self._leave_out_images()
                logger.exception("the pictures of %s could not be finished or saved", job.id)
                outcome = BROKEN
            else:
                measured = self._measured
                return self._write(
                    JobState.COMPLETED,
                    lambda **fields: store.complete(job.id, self.lease, output, measured=measured, **fields),
                )
        if isinstance(outcome, Failure):
            failure = outcome
            return self._write(JobState.FAILED, lambda **fields: store.fail(job.id, self.lease, failure, **fields))
        if isinstance(outcome, JobCancelled):
            return self._write(JobState.CANCELLED, lambda **fields: store.stop(job.id, self.lease, **fields))
        if isinstance(outcome, HandedBack):
            return self._write(JobState.QUEUED, lambda **fields: store.hand_back(job.id, self.lease, **fields))
        logger.warning("lost the lease of %s", job.id)
        return None

    def _leave_out_images(self) -> None:
        """Those that nobody has begun to finish."""
        for image in self._images:
            image.cancel()

    def _measure(self, measure: Measure, value: float, label: str = "") -> None:
        self._measured.append(observed(measure, value, label))

    def _write(self, state: JobState, write: Callable[..., object]) -> JobState | None:
        """A store that does not answer may be back before the lease is over, and the work of minutes need not be done
        again."""
        events, until = self._log.end(), time.monotonic() + self._tools.lease_seconds
        with self._spans.stage("complete", state=state.value):
            while True:
                try:
                    write(now=self._tools.clock(), events=events)
                except LeaseLost as lost:
                    logger.warning("lost the lease of %s", lost.job_id)
                    return None
                except StoreUnavailable:
                    if time.monotonic() > until:
                        raise
                    logger.warning("the store does not answer; trying again to write how a job ended")
                    time.sleep(RETRY_SECONDS)
                    continue
                return state

    def _edited(self, request: EditRequest) -> Edited | Failure:
        tools, log, began = self._tools, self._log, time.monotonic()
        log.say(f"attempt {self._job.attempt} on {tools.engine.name}")
        if request.ignored_fields:
            unknown = ", ".join(request.ignored_fields)
            log.say(f"ignored, since this endpoint does not know them: {unknown}", EventLevel.WARN)
        source = tools.ahead.taken(self._job.id) or self._read(request)
        decoded = time.monotonic()
        log.say(f"source read: {source.width}x{source.height}", seconds=round(decoded - began, 3))
        if any(self._flagged(request, [source])):
            return REFUSED
        with self._spans.stage("edit", width=source.width, height=source.height) as span:
            started, done = self._driven(request, source, span)
        seconds = time.monotonic() - decoded
        self._measure(EDIT_SECONDS, seconds, step_group(started.steps_total))
        return Edited(started, self._images, seconds, done.traded)

    def _read(self, request: EditRequest) -> Picture:
        """The source, fetched and decoded now."""
        with self._spans.stage("fetch source"):
            data = self._patiently(lambda: self._tools.read_source(request.image_url))
        with self._spans.stage("decode") as span:
            source = self._tools.pictures.decode(data)
            span.note(width=source.width, height=source.height)
        return source

    def _flagged(self, request: EditRequest, pictures: Sequence[Picture]) -> list[bool]:
        """What the checker says of each picture; nothing where nobody asked, or nobody can say."""
        checker = self._tools.safety
        return checker.flagged(pictures) if checker is not None and request.enable_safety_checker else []

    def _driven(self, request: EditRequest, source: Picture, span: Span) -> tuple[EditStarted, EditDone]:
        """Run the engine to its end, telling each step."""
        tools, log = self._tools, self._log
        started: EditStarted | None = None
        done: EditDone | None = None
        checker = tools.safety if request.enable_safety_checker else None
        previews = Previews(self._job, log, self._spans, tools.previews, checker=checker, measured=self._measured)
        step_began, steps, seconds_of_steps = time.monotonic(), 0, 0.0
        for progress in tools.engine.edit(source, request.edit_input):
            if tools.hurry.is_set():
                raise HandedBack
            if isinstance(progress, EditStarted):
                started, step_began = progress, time.monotonic()
                span.note(steps=progress.steps_total, images=progress.settings.num_images)
                for warning in progress.warnings:
                    log.say(warning, EventLevel.WARN)
                if request.enable_safety_checker and tools.safety is None:
                    log.say(UNCHECKED, EventLevel.WARN)
            elif isinstance(progress, StepDone):
                seconds = time.monotonic() - step_began
                steps, seconds_of_steps = steps + 1, seconds_of_steps + seconds
                facts: dict[str, Any] = {"step": progress.steps_done, "of": progress.steps_total}
                log.say(f"step {progress.steps_done} of {progress.steps_total}", seconds=round(seconds, 4), **facts)
                previews.offer(progress)
                step_began = time.monotonic()
                tools.ahead.look(seconds_of_steps / steps * (progress.steps_total - progress.steps_done))
            elif isinstance(progress, ImageMade) and started is not None:
                index = len(self._images)
                self._images.append(tools.finishers.submit(self._made, request, started, index, progress.finish))
            elif isinstance(progress, EditDone):
                done = progress
                if progress.traded is not None:
                    log.say(progress.traded.in_words())
            log.flush()
        if started is None or done is None:
            raise RuntimeError("the engine ended without an edit")
        if seconds_of_steps > 0:
            self._measure(STEPS_PER_SECOND, steps / seconds_of_steps)
        return started, done

    def _made(self, request: EditRequest, started: EditStarted, index: int, finish: Callable[[], Picture]) -> Made:
        """One image in the source's size, black where the checker flags it, as a file."""
        began = time.monotonic()
        with about(job_id=self._job.id):
            with self._spans.stage("finish") as span:
                picture = finish()
                span.note(width=picture.width, height=picture.height)
                is_flagged = next(iter(self._flagged(request, [picture])), None)
            self._log.say(f"finished: {picture.width}x{picture.height}", seconds=round(time.monotonic() - began, 3))
            picture = blackened(picture) if is_flagged else picture
            data = self._encoded(request, started, index, picture)
        return Made(data, picture.width, picture.height, is_flagged)

    def _encoded(self, request: EditRequest, started: EditStarted, index: int, picture: Picture) -> bytes:
        tools = self._tools
        origin = {
            "software": f"hidream-edit {__version__}",
            "model": tools.engine.name,
            "seed": started.settings.seed_of_image(index),
            "settings": started.settings.as_json(),
        }
        began = time.monotonic()
        with self._spans.stage("encode", width=picture.width, height=picture.height):
            data = encode(picture, request.output_format, about=origin if tools.tells_origin else None)
        self._measure(ENCODE_SECONDS, time.monotonic() - began)
        return data

    def _saved(self, edited: Edited) -> Mapping[str, Any]:
        """The output of the job. Its pictures are saved before it is completed: a crash in between repeats work, and
        the other order could announce pictures that do not exist."""
        request = self._request
        if request is None:
            raise RuntimeError("nothing was edited")
        made = [image.result() for image in edited.images]
        flagged = [one.is_flagged for one in made if one.is_flagged is not None]
        if any(flagged):
            self._log.say(FLAGGED, EventLevel.WARN)
        self._log.flush()  # somebody may have cancelled it meanwhile
        images = [self._stored(one, f"image/{request.output_format}") for one in made]
        return {
            "images": images,
            "timings": {"inference": round(edited.seconds, 4)},
            "seed": edited.started.settings.seed,
            "has_nsfw_concepts": flagged if request.enable_safety_checker else [False] * len(images),
            "prompt": edited.started.prompt,
            "sync_mode": request.sync_mode,
            "quality": None if edited.traded is None else edited.traded.as_json(),
        }

    def _stored(self, made: Made, content_type: str) -> dict[str, Any]:
        with self._spans.stage("store"):
            facts = self._patiently(lambda: self._kept(made.data, content_type))
        return {"blob": facts.id, "width": made.width, "height": made.height, "content_type": content_type}

    def _patiently(self, call: Callable[[], T]) -> T:
        """Do what needs the files, as soon as they can be had.

        Raises:
            HandedBack: that takes too long, or this process is about to end.
        """
        until = time.monotonic() + BLOBS_PATIENCE_SECONDS
        while True:
            try:
                return call()
            except AWAY as problem:
                if time.monotonic() > until:
                    raise HandedBack from problem
                logger.warning("%s; trying again", problem)
                if self._tools.hurry.wait(BLOBS_RETRY_SECONDS):
                    raise HandedBack from problem

    def _kept(self, data: bytes, content_type: str) -> BlobFacts:
        tools, job = self._tools, self._job
        return tools.blobs.put(
            iter([data]),
            content_type,
            now=tools.clock(),
            keep_seconds=job.keep_seconds,
            caller=job.caller,
            access=job.access,
        )
