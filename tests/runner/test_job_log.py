"""The log of a job that several threads write to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from hidream_edit.domain.errors import StoreUnavailable
from hidream_edit.domain.job import Job, NewEvent, NewJob
from hidream_edit.runner import job_log
from hidream_edit.runner.job_log import JobCancelled, JobLog
from hidream_edit.testing.memory_store import MemoryStore


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "FLUSH_SECONDS", 0.0)


def claimed(store: MemoryStore) -> Job:
    store.submit(NewJob(id="a", caller="c", input={}), now=0)
    job = store.claim(runner_id="r", now=0, lease_seconds=30)
    assert job is not None
    return job


def log_of(store: MemoryStore) -> JobLog:
    job = claimed(store)
    return JobLog(store, job, str(job.lease_token), lambda: 5.0)


def told(store: MemoryStore) -> list[str]:
    return [event.message for event in store.events("a")]


def test_what_is_said_after_the_end_is_dropped() -> None:
    log = log_of(MemoryStore())
    log.say("last")
    assert [event.message for event in log.end()] == ["last"]
    log.say("late")
    assert log.end() == []


def test_a_cancellation_that_one_thread_hears_of_reaches_the_one_that_edits() -> None:
    store = MemoryStore()
    log = log_of(store)
    store.cancel("a", now=1)
    log.say("preview")
    with pytest.raises(JobCancelled):
        log.flush(at_once=True)
    with pytest.raises(JobCancelled):
        log.flush()  # nothing waits, and it was asked for all the same


class Slow(MemoryStore):
    """Its first write takes until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_busy, self.may_go_on = threading.Event(), threading.Event()

    def append_events(self, job_id: str, lease_token: str, events: Sequence[NewEvent]) -> bool:
        if not self.is_busy.is_set():
            self.is_busy.set()
            assert self.may_go_on.wait(10)
        return super().append_events(job_id, lease_token, events)


def test_a_step_does_not_wait_for_another_threads_write_and_lines_keep_their_order() -> None:
    store = Slow()
    log = log_of(store)
    log.say("preview of step 1")
    other = threading.Thread(target=lambda: log.flush(at_once=True))
    other.start()
    assert store.is_busy.wait(10)
    log.say("step 2")
    log.flush()  # comes back at once
    assert told(store) == []
    store.may_go_on.set()
    other.join()
    log.flush()
    assert told(store) == ["preview of step 1", "step 2"]


def test_lines_that_the_store_did_not_take_stay_before_those_that_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    log, append = log_of(store), store.append_events

    def gone(*_: Any) -> bool:
        log.say("second")
        raise StoreUnavailable("gone")

    monkeypatch.setattr(store, "append_events", gone)
    log.say("first")
    log.flush()
    monkeypatch.setattr(store, "append_events", append)
    log.flush()
    assert told(store) == ["first", "second"]
