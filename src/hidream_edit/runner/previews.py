"""Small pictures of a running edit: encoded, stored and told beside its next steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from hidream_edit.domain.blobs import BlobStore
from hidream_edit.domain.edit_request import StepDone
from hidream_edit.domain.errors import BlobsUnavailable, LeaseLost, StoreUnavailable
from hidream_edit.domain.job import EventLevel, Job
from hidream_edit.domain.measures import PREVIEW_SECONDS, Observation, observed
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.safety import SafetyChecker, blackened
from hidream_edit.pictures.encode import encode
from hidream_edit.runner.beside import Beside
from hidream_edit.runner.job_log import JobCancelled, JobLog
from hidream_edit.runner.job_spans import JobSpans

logger = logging.getLogger(__name__)

KEEP_SECONDS, SECONDS_BETWEEN = 300.0, 0.25


@dataclass(frozen=True, slots=True)
class PreviewTools:
    """What previews of all jobs are made with."""

    blobs: BlobStore
    beside: Beside
    clock: Callable[[], float]


class Previews:
    """Those of one job. Where the thread is behind, a newer one takes the place of one that waits; one that is ready
    only after the end is not told any more."""

    def __init__(
        self,
        job: Job,
        log: JobLog,
        spans: JobSpans,
        tools: PreviewTools,
        *,
        checker: SafetyChecker | None,
        measured: list[Observation],
    ) -> None:
        self._job, self._log, self._spans, self._tools, self._checker = job, log, spans, tools, checker
        self._measured, self._offered_at = measured, 0.0

    def offer(self, done: StepDone) -> None:
        """Make one of where the edit stands, if the last is old enough; of the last step the picture itself tells.

        The small picture is made here, between two steps: there is one device, and its memory is planned for one thing
        at a time. The rest is done beside the next steps.
        """
        began = time.monotonic()
        is_due = self._job.wants_previews and began - self._offered_at >= SECONDS_BETWEEN
        if not is_due or done.steps_done == done.steps_total:
            return
        self._offered_at = began
        try:
            picture = done.preview()
        except Exception:
            logger.exception("a preview failed; the edit goes on")
            return
        self._tools.beside.give(lambda: self._show(picture, done.steps_done, began))

    def _show(self, picture: Picture, step: int, began: float) -> None:
        if self._log.has_ended:
            return
        with self._spans.stage("preview"):
            if self._checker is not None and any(self._checker.flagged([picture])):
                picture = blackened(picture)
            data = encode(picture, "jpeg")
            try:
                name = self._stored(data)
                self._log.say(f"preview of step {step}", EventLevel.DEBUG, preview=name)
                self._log.flush(at_once=True)
            except (BlobsUnavailable, StoreUnavailable, JobCancelled, LeaseLost) as problem:
                logger.debug("no preview: %s", problem)  # the edit hears of the last two itself
            else:
                self._measured.append(observed(PREVIEW_SECONDS, time.monotonic() - began))

    def _stored(self, data: bytes) -> str:
        job, now = self._job, self._tools.clock()
        facts = self._tools.blobs.put(
            iter([data]), "image/jpeg", now=now, keep_seconds=KEEP_SECONDS, caller=job.caller, access=job.access
        )
        return facts.id
