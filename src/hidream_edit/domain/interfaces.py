"""Ports: what the parts need from one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from hidream_edit.domain.deliveries import Delivery, DeliveryAttempt, DeliveryState
from hidream_edit.domain.errors import CallerLimited, QueueFull
from hidream_edit.domain.job import Event, Failure, Job, NewEvent, NewJob
from hidream_edit.domain.measures import Census, Observation
from hidream_edit.domain.quotas import UNLIMITED, Quota
from hidream_edit.domain.safety import UNCHECKED

RUNNER_SILENT_SECONDS = 15.0  # a runner that said nothing for three heartbeats is not there


class Waiting(NamedTuple):
    """A job in the line, in the order in which jobs will be claimed."""

    id: str
    priority: int


class Submit(NamedTuple):
    """A job on its way into the store."""

    job: NewJob
    waiting_max: int | None = None  # refused when more jobs wait
    failure: Failure | None = None  # its input was read and found wrong
    quota: Quota = UNLIMITED


class RunnerState(StrEnum):
    """What a runner is doing."""

    LOADING = "loading"  # weights are on their way
    WARMING = "warming"  # the first, slow edit is made for nobody
    READY = "ready"  # waits for a job, or works on one
    DRAINING = "draining"  # finishes what it has


class RunnerFacts(NamedTuple):
    """A runner as others see it."""

    id: str
    state: RunnerState
    engine: str
    seen_at: float
    defaults: Mapping[str, Any] = {}  # of the loaded model, for fields that a request leaves out
    device: str = ""
    safety: str = UNCHECKED
    examples: tuple[str, ...] = ()  # instructions that the model is good at
    memory_bytes: int = 0


class JobStore(Protocol):
    """Durable jobs. A method that returns has committed; every write of a runner names its lease.

    Methods are synchronous and safe to call from any thread; ``now`` is Unix seconds and comes from the caller.
    """

    def submit(self, job: NewJob, *, now: float, waiting_max: int | None = None, failure: Failure | None = None) -> Job:
        """Store a job. The same caller and idempotency key give the job that is already there.

        With ``failure`` the job has failed before it could wait: its input was read and found wrong.

        Raises:
            QueueFull: more than ``waiting_max`` jobs wait.
        """

    def submit_all(self, submits: Sequence[Submit], *, now: float) -> list[Job | QueueFull | CallerLimited]:
        """Store many jobs with one commit; each is stored or refused for itself."""

    def next_in_line(self, *, now: float) -> Job | None:
        """The job that a claim would hand out now, without its input. It stays in the line, and nobody is bound."""

    def claim(self, *, runner_id: str, now: float, lease_seconds: float) -> Job | None:
        """Hand the next job to a runner, with a new lease. A job past its start deadline fails instead."""

    def extend(self, leases: Sequence[str], *, now: float, lease_seconds: float) -> Mapping[str, bool]:
        """Extend leases. Returns, for each that still holds, whether its job was asked to cancel."""

    def append_events(self, job_id: str, lease_token: str, events: Sequence[NewEvent]) -> bool:
        """Add events to a running job. Returns whether it was asked to cancel.

        Raises:
            LeaseLost: the lease is no longer the job's.
        """

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
        """The last events, the end, and what the runner measured, in one write. Raises LeaseLost."""

    def fail(
        self, job_id: str, lease_token: str, failure: Failure, *, now: float, events: Sequence[NewEvent] = ()
    ) -> Job:
        """Raises LeaseLost."""

    def stop(self, job_id: str, lease_token: str, *, now: float, events: Sequence[NewEvent] = ()) -> Job:
        """The runner obeyed a cancellation. Raises LeaseLost."""

    def hand_back(self, job_id: str, lease_token: str, *, now: float, events: Sequence[NewEvent] = ()) -> Job:
        """Back to the line, at its old place; the attempt does not count. Raises LeaseLost."""

    def cancel(self, job_id: str, *, now: float) -> Job:
        """A queued job is cancelled at once, a running one is asked to.

        Raises:
            JobNotFound: no such job.
            JobFinished: too late.
        """

    def get(self, job_id: str) -> Job:
        """The job with its input, which only `submit`, `claim` and this one give. Raises JobNotFound."""

    def keep_until(self, job_id: str, until: float) -> None:
        """Prune a finished job as early as ``until``, Unix seconds; never later than it would have been."""

    def recent(self, limit: int) -> list[Job]:
        """The jobs that were submitted last, newest first."""

    def events(self, job_id: str, *, after: int = 0) -> list[Event]:
        """Events with larger numbers than ``after``."""

    def changed_since(self, revision: int, *, limit: int = 500) -> list[Job]:
        """Jobs that changed after ``revision``, in the order of their changes."""

    def revision(self) -> int:
        """Of the last change of any job."""

    def wait(self, revision: int, *, seconds_max: float) -> int:
        """Wait until something changed after ``revision``, or the time is over; returns the current revision."""

    def line(self) -> list[Waiting]:
        """All queued jobs in the order in which they will be claimed."""

    def census(self) -> Census:
        """How many jobs wait and run."""

    def measures(self) -> list[Observation]:
        """Totals of all that ended since the store was made; a bound that nothing fell under is left out."""

    def claim_delivery(self, *, now: float, lease_seconds: float) -> Delivery | None:
        """The webhook that is due longest; it is due again when the lease is over."""

    def record_attempt(self, delivery: Delivery, attempt: DeliveryAttempt, *, next_at: float | None) -> None:
        """What came of a try: without an error it is delivered, without ``next_at`` given up.

        Nothing is recorded of a job that was pruned in the meantime.
        """

    def attempts(self, job_id: str) -> list[DeliveryAttempt]:
        """All tries to tell of a job's end."""

    def deliveries(self, limit: int) -> list[DeliveryState]:
        """Duties to tell somebody, those of the newest jobs first."""

    def redeliver(self, job_id: str, *, now: float) -> bool:
        """Make a duty due now, whatever became of it; False where there is none."""

    def of_caller(self, caller: str, *, limit: int, before: int | None = None, words: str = "") -> list[Job]:
        """A caller's jobs, newest first; those with a sequence below ``before``, whose instruction holds ``words``."""

    def announce(self, runner: RunnerFacts) -> None:
        """A runner says that it is there."""

    def dismiss(self, runner_id: str) -> None:
        """A runner has ended."""

    def runners(self, *, since: float) -> list[RunnerFacts]:
        """Runners that were heard of after ``since``."""

    def rescue(self, *, now: float) -> list[Job]:
        """Jobs whose lease ended go back to the line, or fail when their attempts are used up."""

    def expire(self, *, now: float) -> list[Job]:
        """Queued jobs past their start deadline fail."""

    def prune(self, *, now: float) -> int:
        """Delete finished jobs whose time is over; returns how many."""

    def close(self) -> None:
        """Release files and connections."""
