"""How jobs end, once, and how long what they made is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.conformance.job_store.calls import INPUT, claim, submit, token

from hidream_edit.domain.errors import JobFinished, LeaseLost
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import Failure, JobState, NewEvent


def test_completing_stores_the_output_and_ends_the_lease(store: JobStore) -> None:
    submit(store, "a")
    job = claim(store)
    done = store.complete("a", token(job), {"images": []}, now=9.0)
    assert (done.state, done.output, done.finished_at, done.lease_token) == (
        JobState.COMPLETED, {"images": []}, 9.0, None,
    )  # fmt: skip
    assert store.get("a") == replace(done, input=INPUT)


def test_a_failure_keeps_its_kind_field_and_context(store: JobStore) -> None:
    submit(store, "a")
    failure = Failure("image_too_large", "too large", "image_url", {"max_width": 5})
    assert store.fail("a", token(claim(store)), failure, now=2).failure == failure


def test_the_last_events_are_written_with_the_end(store: JobStore) -> None:
    submit(store, "a")
    store.complete("a", token(claim(store)), {}, now=2, events=[NewEvent(1, "last")])
    assert [event.message for event in store.events("a")] == ["last"]


def test_a_job_ends_once(store: JobStore) -> None:
    submit(store, "a")
    lease = token(claim(store))
    store.complete("a", lease, {}, now=2)
    with pytest.raises(LeaseLost):
        store.complete("a", lease, {}, now=3)
    with pytest.raises(JobFinished):
        store.cancel("a", now=3)


def test_a_job_that_is_not_to_be_stored_loses_its_input_when_it_ends(store: JobStore) -> None:
    submit(store, "a", store_io=False)
    job = claim(store)
    store.hand_back("a", token(job), now=1)
    job = claim(store)
    assert job.input == INPUT
    store.complete("a", token(job), {}, now=2)
    assert store.get("a").input == {}


def test_the_time_that_a_finished_job_is_kept_can_be_made_shorter_only(store: JobStore) -> None:
    submit(store, "a", keep_seconds=100)
    store.keep_until("a", 5.0)  # it has not ended
    store.complete("a", token(claim(store)), {}, now=10)
    before = store.revision()
    store.keep_until("a", 500.0)
    assert store.prune(now=60) == 0
    store.keep_until("a", 50.0)
    assert [job.keep_seconds for job in store.changed_since(before)] == [40.0]
    assert store.prune(now=49) == 0
    assert store.prune(now=50) == 1
    store.keep_until("a", 1.0)


def test_old_results_are_pruned_with_their_events(store: JobStore) -> None:
    submit(store, "a", "b", keep_seconds=100.0)
    lease = token(claim(store))
    store.append_events("a", lease, [NewEvent(1, "one")])
    store.complete("a", lease, {}, now=10)
    assert store.prune(now=109) == 0
    assert store.prune(now=110) == 1
    assert store.events("a") == []
    assert store.get("b").state is JobState.QUEUED
