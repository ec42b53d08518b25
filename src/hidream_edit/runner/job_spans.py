"""What an attempt tells of its stages, below the span that the submit left with the job."""

from __future__ import annotations

from typing import Unpack

from hidream_edit.domain.job import Job, JobState
from hidream_edit.telemetry.traces import Facts, Span, Tracer


class JobSpans:
    """The attempt's own span, from the claim to the end, and those of its stages.

    The wait counts from the submit, also for a second attempt: when a job went back to the line is not kept.
    """

    def __init__(self, tracer: Tracer, job: Job) -> None:
        self._tracer = tracer
        began = job.queued_at if job.started_at is None else job.started_at
        self._whole = tracer.begin(
            "attempt", job.traceparent, kind="consumer", at=began, request_id=job.id, attempt=job.attempt
        )
        tracer.record(
            "queue wait",
            job.traceparent or self._whole.traceparent,
            began=min(job.queued_at, began),  # two machines, two clocks
            ended=began,
            request_id=job.id,
            attempt=job.attempt,
            seconds=max(0.0, round(began - job.queued_at, 3)),
        )

    def stage(self, name: str, **facts: Unpack[Facts]) -> Span:
        """A stage, to be used as a context."""
        return self._tracer.begin(name, self._whole.traceparent, **facts)

    def end(self, state: JobState | None) -> None:
        """The attempt is over, and the job is in ``state``; None: it was another runner's by then, or stays running."""
        if state is None:
            self._whole.failed("LeaseLost")
        else:
            self._whole.note(state=state.value)
            if state is JobState.FAILED:
                self._whole.failed("JobFailed")
        self._whole.end()
