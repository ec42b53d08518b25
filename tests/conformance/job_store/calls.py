"""Calls that most tests of the suite make."""

from __future__ import annotations

from typing import Any

from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import Job, NewJob

LEASE = 30.0
INPUT = {"image_url": "data:,x"}


def new(name: str, caller: str = "alice", **fields: Any) -> NewJob:
    return NewJob(id=name, caller=caller, input=INPUT, **fields)


def submit(store: JobStore, *names: str, now: float = 0.0, **fields: Any) -> None:
    for name in names:
        store.submit(new(name, **fields), now=now)


def claim(store: JobStore, *, now: float = 1.0, runner_id: str = "r1") -> Job:
    job = store.claim(runner_id=runner_id, now=now, lease_seconds=LEASE)
    assert job is not None
    assert job.lease_token is not None
    return job


def token(job: Job) -> str:
    assert job.lease_token is not None
    return job.lease_token
