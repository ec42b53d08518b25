"""What a submit stores, refuses, and finds again."""

from __future__ import annotations

import pytest
from tests.conformance.job_store.calls import INPUT, LEASE, claim, new, submit, token

from hidream_edit.domain.errors import JobNotFound, QueueFull
from hidream_edit.domain.interfaces import JobStore, Submit
from hidream_edit.domain.job import Failure, JobState, Priority


def test_a_job_is_what_was_submitted(store: JobStore) -> None:
    job = store.submit(
        new("a", priority=Priority.LOW, webhook_url="https://x", wants_previews=True, keep_seconds=7), now=5.0
    )
    assert store.get("a") == job
    assert (job.state, job.queued_at, job.attempt, job.input) == (JobState.QUEUED, 5.0, 0, {"image_url": "data:,x"})
    assert (job.priority, job.webhook_url, job.wants_previews, job.keep_seconds) == (1, "https://x", True, 7)


def test_where_the_spans_of_a_job_belong_stays_with_it_to_its_end(store: JobStore) -> None:
    place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert store.submit(new("a", traceparent=place), now=0).traceparent == place
    job = claim(store)
    store.hand_back("a", token(job), now=2)
    job = claim(store, now=3)
    assert job.traceparent == store.complete("a", token(job), {}, now=4).traceparent == store.get("a").traceparent
    assert store.get("a").traceparent == place
    submit(store, "b")
    assert store.get("b").traceparent is None


def test_inputs_which_may_be_megabytes_come_with_a_claim_and_are_left_out_of_what_many_follow(store: JobStore) -> None:
    submit(store, "a")
    assert claim(store).input == store.get("a").input == INPUT
    assert [job.input for job in [*store.changed_since(0), *store.recent(9), store.cancel("a", now=2)]] == [{}, {}, {}]


def test_the_same_key_of_the_same_caller_is_the_same_job(store: JobStore) -> None:
    first = store.submit(new("a", idempotency_key="k"), now=0)
    assert store.submit(new("b", idempotency_key="k"), now=1) == first
    assert store.submit(new("c", caller="bob", idempotency_key="k"), now=1).id == "c"


def test_a_submit_whose_input_is_wrong_has_failed_at_once(store: JobStore) -> None:
    job = store.submit(new("a"), now=3, failure=Failure("validation", "no image_url"))
    assert (job.state, job.finished_at) == (JobState.FAILED, 3)
    assert store.claim(runner_id="r", now=4, lease_seconds=LEASE) is None


def test_a_submit_is_refused_when_more_wait_than_the_caller_allows(store: JobStore) -> None:
    submit(store, "a", "b")
    store.submit(new("c"), now=0, waiting_max=2)
    with pytest.raises(QueueFull):
        store.submit(new("d"), now=0, waiting_max=2)
    with pytest.raises(JobNotFound):
        store.get("d")


def test_many_submits_share_a_commit_and_each_is_stored_or_refused_for_itself(store: JobStore) -> None:
    submits = [Submit(new("a")), Submit(new("b"), 0), Submit(new("c"), 5), Submit(new("d"), None, Failure("x", "x"))]
    first, refused, third, failed = store.submit_all(submits, now=1)
    assert isinstance(refused, QueueFull)
    assert [one.id for one in store.line()] == ["a", "c"]
    assert not isinstance(failed, QueueFull)
    assert failed.state is JobState.FAILED
    assert (first, third) == (store.get("a"), store.get("c"))
