"""A rate and a number at a time, for each caller alone."""

from __future__ import annotations

import pytest
from tests.conformance.job_store.calls import claim, new, token

from hidream_edit.domain.errors import CallerLimited, JobNotFound
from hidream_edit.domain.interfaces import JobStore, Submit
from hidream_edit.domain.job import Job
from hidream_edit.domain.quotas import Quota


def quota_of(store: JobStore, name: str, quota: Quota, *, now: float, caller: str = "alice") -> bool:
    (outcome,) = store.submit_all([Submit(new(name, caller), quota=quota)], now=now)
    return isinstance(outcome, Job)


def test_a_rate_holds_for_each_caller_alone_and_gives_again_with_time(store: JobStore) -> None:
    two = Quota(rate_per_minute=2)
    assert [quota_of(store, f"a{n}", two, now=0) for n in range(3)] == [True, True, False]
    assert quota_of(store, "b", two, now=0, caller="bob")
    assert not quota_of(store, "a3", two, now=29)
    assert quota_of(store, "a4", two, now=30)
    with pytest.raises(JobNotFound):
        store.get("a2")


def test_a_refused_request_says_when_to_come_again(store: JobStore) -> None:
    one = Quota(rate_per_minute=1)
    first, second = store.submit_all([Submit(new("a"), quota=one), Submit(new("b"), quota=one)], now=0)
    assert isinstance(first, Job)
    assert isinstance(second, CallerLimited)
    assert second.retry_after == 60


def test_a_number_at_a_time_counts_what_waits_and_what_runs(store: JobStore) -> None:
    two = Quota(concurrent_max=2)
    assert [quota_of(store, name, two, now=0) for name in "abc"] == [True, True, False]
    lease = token(claim(store))
    assert not quota_of(store, "d", two, now=1)
    store.complete("a", lease, {}, now=2)
    assert quota_of(store, "e", two, now=3)
