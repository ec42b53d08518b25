"""Sources of jobs, read and decoded ahead of their turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hidream_edit.blobs.sources import may_be_read_twice
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.errors import HidreamEditError, JobNotFound
from hidream_edit.domain.interfaces import RUNNER_SILENT_SECONDS, JobStore
from hidream_edit.domain.job import JobState
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.isolated import Pictures
from hidream_edit.runner.beside import Beside
from hidream_edit.telemetry.traces import Tracer

logger = logging.getLogger(__name__)

AHEAD_SECONDS = 3.0  # most sources are read in less, and the longer ahead, the more often somebody else claims the job
SECONDS_BETWEEN = 0.25
AHEAD_BYTES_MAX = 256 * 2**20


@dataclass(slots=True)
class _Ahead:
    """One source on its way."""

    job_id: str
    image_url: str
    traceparent: str | None
    picture: Picture | None = None
    is_done: threading.Event = field(default_factory=threading.Event)


class SourcesAhead:
    """Guesses which job is next, without claiming it, and has its picture ready when it is claimed.

    A wrong guess costs the work and nothing else: the job stays where it is in the line, and whoever claims it reads
    its source. One picture at a time, of one job.
    """

    def __init__(
        self,
        store: JobStore,
        read_source: Callable[[str], bytes],
        pictures: Pictures,
        tracer: Tracer,
        beside: Beside,
        *,
        clock: Callable[[], float],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._store, self._read_source, self._pictures, self._tracer = store, read_source, pictures, tracer
        self._beside, self._clock, self._is_wanted = beside, clock, is_wanted
        self._lock = threading.Lock()
        self._ahead: _Ahead | None = None
        self._is_open, self._looked_at = False, 0.0

    def look(self, seconds_left: float) -> None:
        """An edit will be done in about ``seconds_left``; never waits."""
        now = time.monotonic()
        if seconds_left > AHEAD_SECONDS or now - self._looked_at < SECONDS_BETWEEN or not self._is_wanted():
            return
        self._looked_at = now
        with self._lock:
            self._is_open = True
        self._beside.give(self._look)

    def stop_looking(self) -> None:
        """A claim comes next: what it takes must not be given up for a newer guess."""
        with self._lock:
            self._is_open, self._looked_at = False, 0.0

    def taken(self, job_id: str) -> Picture | None:
        """The picture of a claimed job, once; waits where it is being read. None where it was not to be had ahead."""
        with self._lock:
            ahead = self._ahead
            if ahead is None or ahead.job_id != job_id:
                return None
            self._ahead = None
        ahead.is_done.wait()
        return ahead.picture

    def forget(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._ahead = None

    def _look(self) -> None:
        with self._lock:
            if not self._is_open:
                return
            try:
                ahead = self._guess()
            except HidreamEditError as problem:
                logger.debug("nothing is read ahead: %s", problem)
                return
            if ahead is None:
                return
            self._ahead = ahead
        try:
            picture = self._read(ahead)
            if len(picture.rgb) + len(picture.alpha or b"") <= AHEAD_BYTES_MAX:
                ahead.picture = picture
        except Exception as problem:  # noqa: BLE001 - the attempt itself meets it again, and tells
            logger.debug("a source could not be read ahead: %s", type(problem).__name__)
        finally:
            ahead.is_done.set()

    def _guess(self) -> _Ahead | None:
        """What to read now; None where what there is, is still the best guess."""
        held, job = self._ahead, self._store.next_in_line(now=self._clock())
        if job is None or (held is not None and held.job_id == job.id):
            self._ahead = None if job is None else held
            return None
        if held is not None and not may_be_read_twice(held.image_url) and self._waits(held.job_id):
            return None  # somebody more urgent came; what was downloaded is kept for its turn
        job = self._store.get(job.id)
        request = EditRequest.from_json(job.input)
        if not may_be_read_twice(request.image_url) and not self._is_alone():
            return None
        return _Ahead(job.id, request.image_url, job.traceparent)

    def _waits(self, job_id: str) -> bool:
        try:
            return self._store.get(job_id).state is JobState.QUEUED
        except JobNotFound:
            return False

    def _is_alone(self) -> bool:
        """Whether nobody else can claim what this runner has read: an address may be good for one download."""
        return len(self._store.runners(since=self._clock() - RUNNER_SILENT_SECONDS)) <= 1

    def _read(self, ahead: _Ahead) -> Picture:
        with self._tracer.begin("read ahead", ahead.traceparent, request_id=ahead.job_id) as whole:
            with self._tracer.begin("fetch source", whole.traceparent):
                data = self._read_source(ahead.image_url)
            with self._tracer.begin("decode", whole.traceparent) as span:
                picture = self._pictures.decode(data)
                span.note(width=picture.width, height=picture.height)
        return picture
