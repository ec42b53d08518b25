"""Totals of all that ended."""

from __future__ import annotations

import pytest
from tests.conformance.job_store.calls import claim, submit, token

from hidream_edit.domain.errors import LeaseLost
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import Failure
from hidream_edit.domain.measures import EDIT_SECONDS, Observation, observed


def test_each_end_counts_once_and_the_wait_counts_for_jobs_that_ran(store: JobStore) -> None:
    submit(store, "a", "b", "c", now=10)
    store.complete("a", token(claim(store, now=10.25)), {}, now=11)
    store.cancel("b", now=12)
    store.fail("c", token(claim(store, now=14)), Failure("x", "y"), now=15)
    assert store.measures() == [
        Observation("jobs_ended", "cancelled", "+Inf", 1, 1.0),
        Observation("jobs_ended", "completed", "+Inf", 1, 1.0),
        Observation("jobs_ended", "failed", "+Inf", 1, 1.0),
        Observation("queue_seconds", "", "0.5", 1, 0.25),
        Observation("queue_seconds", "", "5", 1, 4.0),
    ]


def test_what_a_runner_measured_is_kept_with_the_end_of_its_job_or_not_at_all(store: JobStore) -> None:
    measured = [
        observed(EDIT_SECONDS, 3.0, "1-8"),
        observed(EDIT_SECONDS, 4.5, "1-8"),
        observed(EDIT_SECONDS, 1e9, "51+"),
    ]
    submit(store, "a", now=0)
    job = claim(store)
    with pytest.raises(LeaseLost):
        store.complete("a", "another", {}, now=2, measured=measured)
    assert store.measures() == []
    store.complete("a", token(job), {}, now=2, measured=measured)
    assert [one for one in store.measures() if one.name == "edit_seconds"] == [
        Observation("edit_seconds", "1-8", "5", 2, 7.5),
        Observation("edit_seconds", "51+", "+Inf", 1, 1e9),
    ]


def test_totals_outlive_the_jobs_that_they_count(store: JobStore) -> None:
    submit(store, "a", keep_seconds=1)
    store.complete("a", token(claim(store)), {}, now=2)
    before = store.measures()
    assert store.prune(now=100) == 1
    assert store.measures() == before
