"""A job: one durable edit, its states, and the only moves between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any

from hidream_edit.domain.blobs import Access
from hidream_edit.domain.errors import IllegalMove


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # any runner may claim it
    RUNNING = "running"  # one runner holds the lease
    COMPLETED = "completed"  # output stored
    FAILED = "failed"  # failure stored, nothing more will run
    CANCELLED = "cancelled"  # the caller asked, nothing more will run

    @property
    def is_final(self) -> bool:
        """Whether the job can never move again."""
        return not LEGAL_MOVES[self]


LEGAL_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class Priority(IntEnum):
    """All of one level run before any of the next."""

    NORMAL = 0
    LOW = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed. ``kind`` is the machine-readable error type; ``field`` names the input that was wrong."""

    kind: str
    message: str
    field: str | None = None
    context: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What a submit says."""

    id: str
    caller: str
    input: Mapping[str, Any]
    priority: Priority = Priority.NORMAL
    attempts_max: int = 3
    start_deadline: float | None = None  # Unix seconds by which it must be running
    wants_previews: bool = False
    webhook_url: str | None = None
    origin: str = ""  # how the caller reaches us
    idempotency_key: str | None = None
    keep_seconds: float = 3600.0  # how long the result can be fetched, counted from the end
    store_io: bool = True  # False: the input is deleted when the job ends, and the output soon after it was fetched
    access: Access = Access.ALLOW  # to the pictures that it makes
    instruction: str = ""  # to find it again by
    traceparent: str | None = None  # where its spans belong


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stored job. Times are Unix seconds."""

    id: str
    caller: str
    state: JobState
    priority: Priority
    sequence: int  # order of submits
    revision: int  # of the store, at the last change of this job
    attempt: int
    attempts_max: int
    queued_at: float
    keep_seconds: float
    wants_previews: bool = False
    store_io: bool = True
    access: Access = Access.ALLOW
    instruction: str = ""
    traceparent: str | None = None
    webhook_url: str | None = None
    origin: str = ""
    idempotency_key: str | None = None
    start_deadline: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    runner_id: str | None = None
    lease_token: str | None = None
    lease_expires_at: float | None = None
    cancel_requested: bool = False
    output: Mapping[str, Any] | None = None
    failure: Failure | None = None
    # Left out where many jobs are listed or followed: it may be megabytes.
    input: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def moved(job: Job, to: JobState) -> Job:
    """The job in its next state.

    Raises:
        IllegalMove: there is no such move.
    """
    if to not in LEGAL_MOVES[job.state]:
        raise IllegalMove(job.id, job.state, to)
    return replace(job, state=to)


class EventLevel(StrEnum):
    """How loud a log line is."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened to a job. ``facts`` carry numbers and ids, such as a step or the blob of a preview."""

    at: float
    message: str
    level: EventLevel = EventLevel.INFO
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event; numbers start at 1 and have no gaps."""

    number: int
    at: float
    message: str
    level: EventLevel
    facts: Mapping[str, Any]
