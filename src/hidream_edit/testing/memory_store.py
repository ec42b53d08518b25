"""The job store in plain Python: the shortest way to say what a store does. Nothing is durable."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hidream_edit.domain.deliveries import Delivery, DeliveryAttempt, DeliveryState
from hidream_edit.domain.errors import CallerLimited, JobFinished, JobNotFound, LeaseLost, QueueFull
from hidream_edit.domain.interfaces import RunnerFacts, Submit, Waiting
from hidream_edit.domain.job import Event, EventLevel, Failure, Job, JobState, NewEvent, NewJob, moved
from hidream_edit.domain.measures import (
    GIVEN_UP,
    TRIED_AGAIN,
    WEBHOOK_FAILURES,
    Census,
    Observation,
    added,
    observed,
    of_end,
)
from hidream_edit.domain.quotas import Bucket, Quota, taken

TOO_LATE = Failure("request_timeout", "Request timed out")
ATTEMPTS_USED_UP = Failure("runner_disconnected", "the runner was lost, and all attempts are used up")


class MemoryStore:
    """See `JobStore`. Tests of one's own programs can use it, and the tests of the real stores compare with it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._jobs: dict[str, Job] = {}
        self._inputs: dict[str, Mapping[str, Any]] = {}
        self._turns: dict[str, int] = {}
        self._buckets: dict[str, Bucket] = {}
        self._events: dict[str, list[Event]] = {}
        self._runners: dict[str, RunnerFacts] = {}
        self._deliveries: dict[str, tuple[str, int, float | None]] = {}  # address, attempt, when it is due
        self._attempts: dict[str, dict[int, DeliveryAttempt]] = {}
        self._measures: list[Observation] = []
        self._sequence = self._revision = self._turn = 0

    def submit(self, job: NewJob, *, now: float, waiting_max: int | None = None, failure: Failure | None = None) -> Job:
        (stored,) = self.submit_all([Submit(job, waiting_max, failure)], now=now)
        if isinstance(stored, Exception):
            raise stored
        return stored

    def submit_all(self, submits: Sequence[Submit], *, now: float) -> list[Job | QueueFull | CallerLimited]:
        with self._lock:
            return [self._submitted(*submit, now=now) for submit in submits]

    def _submitted(
        self, new: NewJob, waiting_max: int | None, failure: Failure | None, quota: Quota, *, now: float
    ) -> Job | QueueFull | CallerLimited:
        if new.idempotency_key is not None:
            for job in self._jobs.values():
                if (job.caller, job.idempotency_key) == (new.caller, new.idempotency_key):
                    return self._with_input(job)
        waiting = self.line()
        if waiting_max is not None and len(waiting) > waiting_max:
            return QueueFull(len(waiting), waiting_max)
        active = sum(not job.state.is_final for job in self._jobs.values() if job.caller == new.caller)
        if quota.concurrent_max is not None and active >= quota.concurrent_max:
            return CallerLimited(f"{quota.concurrent_max} requests of this key wait or run already", 1.0, is_rate=False)
        if quota.rate_per_minute is not None:
            after = taken(self._buckets.get(new.caller), quota.rate_per_minute, now=now)
            if isinstance(after, float):
                return CallerLimited(f"this key may make {quota.rate_per_minute:g} requests per minute", after)
            self._buckets[new.caller] = after
        last = max((self._turns[one.id] for one in waiting if self._jobs[one.id].caller == new.caller), default=0)
        self._turns[new.id] = max(self._turn, last) + 1
        self._sequence += 1
        job = Job(
            id=new.id,
            caller=new.caller,
            state=JobState.QUEUED,
            priority=new.priority,
            sequence=self._sequence,
            revision=0,
            attempt=0,
            attempts_max=new.attempts_max,
            queued_at=now,
            keep_seconds=new.keep_seconds,
            wants_previews=new.wants_previews,
            store_io=new.store_io,
            access=new.access,
            instruction=new.instruction,
            traceparent=new.traceparent,
            webhook_url=new.webhook_url,
            origin=new.origin,
            idempotency_key=new.idempotency_key,
            start_deadline=new.start_deadline,
        )
        self._events[new.id], self._inputs[new.id] = [], new.input
        stored = self._kept(job)
        if failure is not None:
            stored = self._finished(stored, JobState.FAILED, now=now, failure=failure)
        return self._with_input(stored)

    def _with_input(self, job: Job) -> Job:
        return replace(job, input=self._inputs.get(job.id, {}))

    def _kept(self, job: Job) -> Job:
        self._revision += 1
        self._jobs[job.id] = kept = replace(job, revision=self._revision)
        self._changed.notify_all()
        return kept

    def next_in_line(self, *, now: float) -> Job | None:
        with self._lock:
            waiting = (self._jobs[one.id] for one in self.line())
            return next((job for job in waiting if job.start_deadline is None or job.start_deadline > now), None)

    def claim(self, *, runner_id: str, now: float, lease_seconds: float) -> Job | None:
        with self._lock:
            job = self.next_in_line(now=now)
            if job is None:
                return None
            self._turn = max(self._turn, self._turns[job.id])
            claimed = replace(
                moved(job, JobState.RUNNING),
                attempt=job.attempt + 1,
                started_at=now,
                runner_id=runner_id,
                lease_token=uuid.uuid4().hex,
                lease_expires_at=now + lease_seconds,
            )
            return self._with_input(self._kept(claimed))

    def extend(self, leases: Sequence[str], *, now: float, lease_seconds: float) -> Mapping[str, bool]:
        with self._lock:
            held = {}
            for job in list(self._jobs.values()):
                if job.lease_token is not None and job.lease_token in leases:
                    self._jobs[job.id] = replace(job, lease_expires_at=now + lease_seconds)
                    held[job.lease_token] = job.cancel_requested
            return held

    def append_events(self, job_id: str, lease_token: str, events: Sequence[NewEvent]) -> bool:
        with self._lock:
            return self._kept(self._under_lease(job_id, lease_token, events)).cancel_requested

    def _under_lease(self, job_id: str, lease_token: str, events: Sequence[NewEvent] = ()) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.lease_token != lease_token:
            raise LeaseLost(job_id)
        self._append(job_id, events)
        return job

    def _append(self, job_id: str, events: Sequence[NewEvent]) -> None:
        stored = self._events[job_id]
        for event in events:
            stored.append(Event(len(stored) + 1, event.at, event.message, event.level, event.facts))

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
        with self._lock:
            job = self._under_lease(job_id, lease_token, events)
            return self._finished(job, JobState.COMPLETED, now=now, output=output, measured=measured)

    def fail(
        self, job_id: str, lease_token: str, failure: Failure, *, now: float, events: Sequence[NewEvent] = ()
    ) -> Job:
        with self._lock:
            job = self._under_lease(job_id, lease_token, events)
            return self._finished(job, JobState.FAILED, now=now, failure=failure)

    def stop(self, job_id: str, lease_token: str, *, now: float, events: Sequence[NewEvent] = ()) -> Job:
        with self._lock:
            return self._finished(self._under_lease(job_id, lease_token, events), JobState.CANCELLED, now=now)

    def hand_back(self, job_id: str, lease_token: str, *, now: float, events: Sequence[NewEvent] = ()) -> Job:
        handed = NewEvent(now, "handed back to the queue", EventLevel.WARN)
        with self._lock:
            job = self._under_lease(job_id, lease_token, [*events, handed])
            return self._requeued(job, attempt=job.attempt - 1)

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
        ended = moved(job, state)
        self._measures = added([*self._measures, *of_end(job, state), *measured])
        if job.webhook_url is not None:
            self._deliveries[job.id] = (job.webhook_url, 0, now)
        if not job.store_io:
            self._inputs.pop(job.id, None)
        ended = replace(ended, output=output, failure=failure, finished_at=now)
        return self._kept(replace(ended, lease_token=None, lease_expires_at=None))

    def _requeued(self, job: Job, *, attempt: int) -> Job:
        back = replace(moved(job, JobState.QUEUED), attempt=attempt, started_at=None, runner_id=None)
        return self._kept(replace(back, lease_token=None, lease_expires_at=None))

    def cancel(self, job_id: str, *, now: float) -> Job:
        with self._lock:
            job = self._known(job_id)
            if job.state.is_final:
                raise JobFinished(job_id)
            if job.state is JobState.QUEUED:
                return self._finished(job, JobState.CANCELLED, now=now)
            return self._kept(replace(job, cancel_requested=True))

    def _known(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise JobNotFound(job_id)
        return self._jobs[job_id]

    def get(self, job_id: str) -> Job:
        with self._lock:
            return self._with_input(self._known(job_id))

    def keep_until(self, job_id: str, until: float) -> None:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.finished_at is not None and job.finished_at + job.keep_seconds > until:
                self._kept(replace(job, keep_seconds=until - job.finished_at))

    def recent(self, limit: int) -> list[Job]:
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: -job.sequence)[:limit]

    def events(self, job_id: str, *, after: int = 0) -> list[Event]:
        with self._lock:
            return self._events.get(job_id, [])[after:]

    def changed_since(self, revision: int, *, limit: int = 500) -> list[Job]:
        with self._lock:
            changed = [job for job in self._jobs.values() if job.revision > revision]
            return sorted(changed, key=lambda job: job.revision)[:limit]

    def revision(self) -> int:
        with self._lock:
            return self._revision

    def wait(self, revision: int, *, seconds_max: float) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._revision > revision, seconds_max)
            return self._revision

    def line(self) -> list[Waiting]:
        with self._lock:
            queued = [job for job in self._jobs.values() if job.state is JobState.QUEUED]
            queued.sort(key=lambda job: (job.priority, self._turns[job.id], job.sequence))
            return [Waiting(job.id, int(job.priority)) for job in queued]

    def census(self) -> Census:
        with self._lock:
            waiting = [job for job in self._jobs.values() if job.state is JobState.QUEUED]
            return Census(
                dict(sorted(Counter(int(job.priority) for job in waiting).items())),
                sum(job.state is JobState.RUNNING for job in self._jobs.values()),
                min((job.queued_at for job in waiting), default=None),
            )

    def measures(self) -> list[Observation]:
        with self._lock:
            return list(self._measures)

    def claim_delivery(self, *, now: float, lease_seconds: float) -> Delivery | None:
        with self._lock:
            due = [(at, job_id) for job_id, (_, _, at) in self._deliveries.items() if at is not None and at <= now]
            if not due:
                return None
            _, job_id = min(due)
            url, attempt, _ = self._deliveries[job_id]
            self._deliveries[job_id] = (url, attempt + 1, now + lease_seconds)
            return Delivery(job_id, url, attempt + 1)

    def record_attempt(self, delivery: Delivery, attempt: DeliveryAttempt, *, next_at: float | None) -> None:
        with self._lock:
            if delivery.job_id not in self._deliveries:
                return
            self._attempts.setdefault(delivery.job_id, {})[delivery.attempt] = attempt
            url, newest, _ = self._deliveries[delivery.job_id]
            if delivery.attempt != newest:
                return
            self._deliveries[delivery.job_id] = (url, newest, None if attempt.error is None else next_at)
            if attempt.error is not None:
                outcome = GIVEN_UP if next_at is None else TRIED_AGAIN
                self._measures = added([*self._measures, observed(WEBHOOK_FAILURES, label=outcome)])

    def attempts(self, job_id: str) -> list[DeliveryAttempt]:
        with self._lock:
            return self._tries(job_id)

    def _tries(self, job_id: str) -> list[DeliveryAttempt]:
        return [attempt for _, attempt in sorted(self._attempts.get(job_id, {}).items())]

    def deliveries(self, limit: int) -> list[DeliveryState]:
        with self._lock:
            states = []
            for job in sorted(self._jobs.values(), key=lambda job: -job.sequence):
                if job.id not in self._deliveries:
                    continue
                url, attempt, due_at = self._deliveries[job.id]
                error = next((one.error for one in reversed(self._tries(job.id))), None)
                state = "pending" if due_at is not None else "delivered" if error is None else "failed"
                states.append(DeliveryState(job.id, url, state, attempt, due_at, error))
            return states[:limit]

    def redeliver(self, job_id: str, *, now: float) -> bool:
        with self._lock:
            if job_id not in self._deliveries:
                return False
            url, attempt, _ = self._deliveries[job_id]
            self._deliveries[job_id] = (url, attempt, now)
            return True

    def of_caller(self, caller: str, *, limit: int, before: int | None = None, words: str = "") -> list[Job]:
        with self._lock:
            found = [
                job
                for job in self._jobs.values()
                if job.caller == caller
                and (before is None or job.sequence < before)
                and words.lower() in job.instruction.lower()
            ]
            return sorted(found, key=lambda job: -job.sequence)[:limit]

    def announce(self, runner: RunnerFacts) -> None:
        with self._lock:
            self._runners[runner.id] = runner

    def dismiss(self, runner_id: str) -> None:
        with self._lock:
            self._runners.pop(runner_id, None)

    def runners(self, *, since: float) -> list[RunnerFacts]:
        with self._lock:
            return sorted(runner for runner in self._runners.values() if runner.seen_at > since)

    def rescue(self, *, now: float) -> list[Job]:
        with self._lock:
            rescued = []
            for job in list(self._jobs.values()):
                if job.lease_expires_at is None or job.lease_expires_at > now:
                    continue
                if job.cancel_requested:
                    rescued.append(self._finished(job, JobState.CANCELLED, now=now))
                elif job.attempt >= job.attempts_max:
                    rescued.append(self._finished(job, JobState.FAILED, now=now, failure=ATTEMPTS_USED_UP))
                else:
                    self._append(job.id, [NewEvent(now, "the runner was lost; trying again", EventLevel.WARN)])
                    rescued.append(self._requeued(job, attempt=job.attempt))
            return rescued

    def expire(self, *, now: float) -> list[Job]:
        with self._lock:
            late = [
                job
                for job in self._jobs.values()
                if job.state is JobState.QUEUED and job.start_deadline is not None and job.start_deadline <= now
            ]
            return [self._finished(job, JobState.FAILED, now=now, failure=TOO_LATE) for job in late]

    def prune(self, *, now: float) -> int:
        with self._lock:
            old = [
                job.id
                for job in self._jobs.values()
                if job.finished_at is not None and job.finished_at + job.keep_seconds <= now
            ]
            for job_id in old:
                for kept in (
                    self._jobs,
                    self._inputs,
                    self._turns,
                    self._events,
                    self._deliveries,
                    self._attempts,
                ):
                    kept.pop(job_id, None)
            return len(old)

    def close(self) -> None:
        """Nothing to release."""
