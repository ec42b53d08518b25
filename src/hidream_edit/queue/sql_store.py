"""The job store on SQL: what all databases share. They differ in their statements and in how they are spoken to."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from hidream_edit.domain.blobs import Access
from hidream_edit.domain.errors import CallerLimited, JobFinished, JobNotFound, LeaseLost, QueueFull
from hidream_edit.domain.interfaces import Submit, Waiting
from hidream_edit.domain.job import Event, EventLevel, Failure, Job, JobState, NewEvent, NewJob, Priority, moved
from hidream_edit.domain.measures import Census, Observation, of_end
from hidream_edit.domain.quotas import Bucket, Quota, taken
from hidream_edit.queue.hints import waited
from hidream_edit.queue.sql_deliveries import SqlDeliveries
from hidream_edit.queue.sql_runners import SqlRunners
from hidream_edit.queue.statements import Row

SEQUENCE_MAX = 2**62
SILENT_SECONDS = 3600.0  # after which a runner that said nothing, and a bucket that nobody used, are forgotten
RETRY_SECONDS = 1.0  # when a caller who has too much at a time may ask again
TOO_LATE = Failure("request_timeout", "Request timed out")
ATTEMPTS_USED_UP = Failure("runner_disconnected", "the runner was lost, and all attempts are used up")


class SqlStore(SqlDeliveries, SqlRunners):
    """See `JobStore`: the jobs themselves."""

    def _written(self, name: str, /, **values: Any) -> Job:
        """Run a statement that returns the job that it changed, under a new revision."""
        row = self._one(name, revision=self._number("next_revision"), **values)
        if row is None:
            raise JobNotFound(str(values.get("id")))
        return _job(row)

    def submit(self, job: NewJob, *, now: float, waiting_max: int | None = None, failure: Failure | None = None) -> Job:
        (stored,) = self.submit_all([Submit(job, waiting_max, failure)], now=now)
        if isinstance(stored, Exception):
            raise stored
        return stored

    def submit_all(self, submits: Sequence[Submit], *, now: float) -> list[Job | QueueFull | CallerLimited]:
        with self.writing():
            return [self._submitted(one, now=now) for one in submits]

    def _submitted(self, submit: Submit, *, now: float) -> Job | QueueFull | CallerLimited:
        job = submit.job
        if job.idempotency_key is not None:
            earlier = self._one("job_by_key", caller=job.caller, idempotency_key=job.idempotency_key)
            if earlier is not None:
                return self._with_input(_job(earlier))
        if submit.waiting_max is not None and (waiting := self._number("count_queued")) > submit.waiting_max:
            return QueueFull(waiting, submit.waiting_max)
        if not submit.quota.is_unlimited and (limited := self._limited(job.caller, submit.quota, now=now)):
            return limited
        stored = self._written(
            "insert_job",
            id=job.id,
            sequence=self._number("next_sequence"),
            caller=job.caller,
            priority=int(job.priority),
            turn=self._number("next_turn", caller=job.caller),
            attempts_max=job.attempts_max,
            wants_previews=job.wants_previews,
            webhook_url=job.webhook_url,
            origin=job.origin,
            idempotency_key=job.idempotency_key,
            queued_at=now,
            start_deadline=job.start_deadline,
            keep_seconds=job.keep_seconds,
            store_io=job.store_io,
            access=job.access.value,
            instruction=job.instruction,
            traceparent=job.traceparent,
        )
        self.execute("insert_input", id=job.id, input=json.dumps(job.input))
        if submit.failure is not None:
            stored = self._finished(stored, JobState.FAILED, now=now, failure=submit.failure)
        return self._with_input(stored) if submit.failure is not None else replace(stored, input=job.input)

    def _limited(self, caller: str, quota: Quota, *, now: float) -> CallerLimited | None:
        """Take one request out of the caller's quota, or say why there is none."""
        if quota.concurrent_max is not None and self._number("count_active", caller=caller) >= quota.concurrent_max:
            return CallerLimited(
                f"{quota.concurrent_max} requests of this key wait or run already", RETRY_SECONDS, is_rate=False
            )
        if quota.rate_per_minute is None:
            return None
        row = self._one("bucket_of_caller", caller=caller)
        known = None if row is None else Bucket(row["tokens"], row["filled_at"])
        after = taken(known, quota.rate_per_minute, now=now)
        if isinstance(after, float):
            return CallerLimited(f"this key may make {quota.rate_per_minute:g} requests per minute", after)
        self.execute("keep_bucket", caller=caller, tokens=after.tokens, filled_at=after.filled_at)
        return None

    def next_in_line(self, *, now: float) -> Job | None:
        row = self._one("next_in_line", now=now)
        return None if row is None else _job(row)

    def claim(self, *, runner_id: str, now: float, lease_seconds: float) -> Job | None:
        if self._number("count_queued") == 0:  # a reader's look, so that idle runners never write
            return None
        with self.writing():
            row = self._one(
                "claim_job",
                revision=self._number("next_revision"),
                now=now,
                runner_id=runner_id,
                lease_token=uuid.uuid4().hex,
                lease_expires_at=now + lease_seconds,
            )
            if row is None:
                return None
            self.execute("advance_turn", turn=row["turn"])
            return self._with_input(_job(row))

    def extend(self, leases: Sequence[str], *, now: float, lease_seconds: float) -> Mapping[str, bool]:
        held = {}
        with self.writing():
            for lease_token in leases:
                row = self._one("extend_lease", lease_token=lease_token, lease_expires_at=now + lease_seconds)
                if row is not None:
                    held[lease_token] = bool(row["cancel_requested"])
        return held

    def append_events(self, job_id: str, lease_token: str, events: Sequence[NewEvent]) -> bool:
        with self.writing():
            job = self._under_lease(job_id, lease_token, events)
            self.execute("touch_job", id=job_id, revision=self._number("next_revision"))
            return job.cancel_requested

    def _append(self, job_id: str, events: Sequence[NewEvent]) -> None:
        last = self._number("last_event", job_id=job_id)
        for number, event in enumerate(events, last + 1):
            values = {"job_id": job_id, "number": number, "at": event.at, "message": event.message}
            values |= {"level": event.level.value, "facts": json.dumps(event.facts)}
            self.execute("insert_event", **values)

    def complete(
        self,
        job_id: str,
        lease_token: str,
        output: Mapping[str, Any],
        *,
        now: float,
        events: Sequence[NewEvent] = (),
        measured: Sequence[Observation] = (),
    ) -> Job:
        with self.writing():
            job = self._under_lease(job_id, lease_token, events)
            return self._finished(job, JobState.COMPLETED, now=now, output=output, measured=measured)

    def fail(
        self, job_id: str, lease_token: str, failure: Failure, *, now: float, events: Sequence[NewEvent] = ()
    ) -> Job:
        with self.writing():
            job = self._under_lease(job_id, lease_token, events)
            return self._finished(job, JobState.FAILED, now=now, failure=failure)

    def stop(self, job_id: str, lease_token: str, *, now: float, events: Sequence[NewEvent] = ()) -> Job:
        with self.writing():
            return self._finished(self._under_lease(job_id, lease_token, events), JobState.CANCELLED, now=now)

    def hand_back(self, job_id: str, lease_token: str, *, now: float, events: Sequence[NewEvent] = ()) -> Job:
        handed = NewEvent(now, "handed back to the queue", EventLevel.WARN)
        with self.writing():
            job = self._under_lease(job_id, lease_token, [*events, handed])
            return self._requeued(job, attempt=job.attempt - 1)

    def cancel(self, job_id: str, *, now: float) -> Job:
        with self.writing():
            job = self._known(job_id)
            if job.state.is_final:
                raise JobFinished(job_id)
            if job.state is JobState.QUEUED:
                return self._finished(job, JobState.CANCELLED, now=now)
            return self._written("request_cancel", id=job_id)

    def _finished(
        self,
        job: Job,
        state: JobState,
        *,
        now: float,
        output: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
        measured: Sequence[Observation] = (),
    ) -> Job:
        moved(job, state)
        self._measure([*of_end(job, state), *measured])
        # The duty to tell the caller is written with the end itself: there is no end that nobody is told of.
        if job.webhook_url is not None:
            self.execute("insert_delivery", job_id=job.id, url=job.webhook_url, due_at=now)
        if not job.store_io:
            self.execute("forget_input", id=job.id)
        return self._written(
            "finish_job",
            id=job.id,
            state=state.value,
            output=None if output is None else json.dumps(output),
            failure=None if failure is None else json.dumps(asdict(failure)),
            now=now,
        )

    def _requeued(self, job: Job, *, attempt: int) -> Job:
        moved(job, JobState.QUEUED)
        return self._written("requeue_job", id=job.id, attempt=attempt)

    def _under_lease(self, job_id: str, lease_token: str, events: Sequence[NewEvent] = ()) -> Job:
        """The job that a runner may write to, after its last events were added."""
        row = self._one("job_under_lease", id=job_id, lease_token=lease_token)
        if row is None:
            raise LeaseLost(job_id)
        if events:
            self._append(job_id, events)
        return _job(row)

    def _known(self, job_id: str) -> Job:
        row = self._one("job_by_id", id=job_id)
        if row is None:
            raise JobNotFound(job_id)
        return _job(row)

    def _with_input(self, job: Job) -> Job:
        row = self._one("input_of_job", id=job.id)
        return job if row is None else replace(job, input=json.loads(row["input"]))

    def get(self, job_id: str) -> Job:
        return self._with_input(self._known(job_id))

    def keep_until(self, job_id: str, until: float) -> None:
        with self.writing():
            self._one("keep_until", revision=self._number("next_revision"), id=job_id, until=until)

    def recent(self, limit: int) -> list[Job]:
        return [_job(row) for row in self.fetch("recent_jobs", limit=limit)]

    def events(self, job_id: str, *, after: int = 0) -> list[Event]:
        return [_event(row) for row in self.fetch("events_after", job_id=job_id, after=after)]

    def changed_since(self, revision: int, *, limit: int = 500) -> list[Job]:
        return [_job(row) for row in self.fetch("changed_since", revision=revision, limit=limit)]

    def revision(self) -> int:
        return self._number("current_revision")

    def wait(self, revision: int, *, seconds_max: float) -> int:
        return waited(self.revision, revision, seconds_max=seconds_max, pause=self.pause)

    def line(self) -> list[Waiting]:
        return [Waiting(row["id"], row["priority"]) for row in self.fetch("line")]

    def census(self) -> Census:
        waiting = self.fetch("waiting_by_priority")
        return Census(
            {row["priority"]: row["number"] for row in waiting},
            self._number("count_running"),
            min((row["oldest"] for row in waiting), default=None),
        )

    def of_caller(self, caller: str, *, limit: int, before: int | None = None, words: str = "") -> list[Job]:
        literal = re.sub(r"([!%_])", r"!\1", words.lower())
        values = {"caller": caller, "limit": limit, "before": SEQUENCE_MAX if before is None else before}
        return [_job(row) for row in self.fetch("jobs_of_caller", pattern=f"%{literal}%", **values)]

    def rescue(self, *, now: float) -> list[Job]:
        if not self.fetch("jobs_without_runner", now=now):
            return []
        rescued = []
        with self.writing():
            for job in [_job(row) for row in self.fetch("jobs_without_runner", now=now)]:
                if job.cancel_requested:
                    rescued.append(self._finished(job, JobState.CANCELLED, now=now))
                elif job.attempt >= job.attempts_max:
                    rescued.append(self._finished(job, JobState.FAILED, now=now, failure=ATTEMPTS_USED_UP))
                else:
                    self._append(job.id, [NewEvent(now, "the runner was lost; trying again", EventLevel.WARN)])
                    rescued.append(self._requeued(job, attempt=job.attempt))
        return rescued

    def expire(self, *, now: float) -> list[Job]:
        if not self.fetch("jobs_too_late", now=now):
            return []
        with self.writing():
            late = [_job(row) for row in self.fetch("jobs_too_late", now=now)]
            return [self._finished(job, JobState.FAILED, now=now, failure=TOO_LATE) for job in late]

    def prune(self, *, now: float) -> int:
        with self.writing():
            self.execute("forget_silent_runners", since=now - SILENT_SECONDS)
            self.execute("forget_full_buckets", since=now - SILENT_SECONDS)
            return self.execute("delete_old", now=now)


def _job(row: Row) -> Job:
    values = {name: value for name, value in dict(row).items() if name != "turn"}
    failure = values["failure"]
    return Job(
        **values
        | {
            "state": JobState(values["state"]),
            "priority": Priority(values["priority"]),
            "output": None if values["output"] is None else json.loads(values["output"]),
            "failure": None if failure is None else _failure(json.loads(failure)),
            "wants_previews": bool(values["wants_previews"]),
            "store_io": bool(values["store_io"]),
            "access": Access(values["access"]),
            "cancel_requested": bool(values["cancel_requested"]),
        }
    )


def _failure(told: Mapping[str, Any]) -> Failure:
    """What a newer program says beside it is passed over."""
    return Failure(**{field.name: told[field.name] for field in fields(Failure) if field.name in told})


def _event(row: Row) -> Event:
    return Event(row["number"], row["at"], row["message"], EventLevel(row["level"]), json.loads(row["facts"]))
