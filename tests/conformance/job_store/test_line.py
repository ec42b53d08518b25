"""Who is next, and how a claim takes it out of the line."""

from __future__ import annotations

import threading

from tests.conformance.job_store.calls import LEASE, claim, submit

from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import JobState, Priority
from hidream_edit.domain.measures import Census


def test_jobs_are_claimed_in_the_order_of_their_submits(store: JobStore) -> None:
    submit(store, "a", "b", "c")
    assert [claim(store).id for _ in range(3)] == ["a", "b", "c"]
    assert store.claim(runner_id="r1", now=1, lease_seconds=LEASE) is None


def test_low_priority_waits_behind_all_of_normal(store: JobStore) -> None:
    submit(store, "low", priority=Priority.LOW)
    submit(store, "a", "b")
    assert [waiting.id for waiting in store.line()] == ["a", "b", "low"]
    assert [claim(store).id for _ in range(3)] == ["a", "b", "low"]


def test_a_callers_many_jobs_do_not_starve_anothers_one(store: JobStore) -> None:
    submit(store, *(f"a{n}" for n in range(6)))
    assert claim(store).id == "a0"
    submit(store, "b0", "b1", caller="bob")
    assert [claim(store).id for _ in range(4)] == ["a1", "b0", "a2", "b1"]


def test_whoever_looks_sees_whom_a_claim_would_take_and_changes_nothing(store: JobStore) -> None:
    assert store.next_in_line(now=1) is None
    submit(store, "low", priority=Priority.LOW)
    submit(store, "late", now=0, start_deadline=5.0)
    submit(store, "a")
    before = store.revision()
    for now, expected in ((1.0, "late"), (5.0, "a")):
        seen = store.next_in_line(now=now)
        assert seen is not None
        assert (seen.id, seen.state, seen.attempt, seen.lease_token, seen.input) == (
            expected, JobState.QUEUED, 0, None, {},
        )  # fmt: skip
    assert store.revision() == before
    assert claim(store, now=5.0).id == "a"
    store.cancel("late", now=5)
    assert [store.next_in_line(now=6), claim(store, now=6).id, store.next_in_line(now=6)][1:] == ["low", None]


def test_a_claim_is_a_lease_of_one_runner(store: JobStore) -> None:
    submit(store, "a")
    job = claim(store, now=3.0, runner_id="r7")
    assert (job.state, job.runner_id, job.attempt, job.started_at) == (JobState.RUNNING, "r7", 1, 3.0)
    assert job.lease_expires_at == 3.0 + LEASE


def test_many_runners_at_once_claim_each_job_once(store: JobStore) -> None:
    submit(store, *(f"j{n}" for n in range(20)))
    claimed: list[str] = []

    def run(number: int) -> None:
        while job := store.claim(runner_id=f"r{number}", now=1.0, lease_seconds=LEASE):
            claimed.append(job.id)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"j{n}" for n in range(20))


def test_a_job_that_does_not_start_in_time_fails_with_a_timeout(store: JobStore) -> None:
    submit(store, "late", start_deadline=10.0)
    submit(store, "b")
    assert claim(store, now=11.0).id == "b"
    (job,) = store.expire(now=11.0)
    assert (job.id, job.state) == ("late", JobState.FAILED)
    assert job.failure is not None
    assert job.failure.kind == "request_timeout"


def test_a_start_deadline_does_not_limit_running(store: JobStore) -> None:
    submit(store, "a", start_deadline=10.0)
    claim(store, now=9.0)
    assert store.expire(now=20.0) == []


def test_the_census_counts_who_waits_by_priority_since_when_and_who_runs(store: JobStore) -> None:
    assert store.census() == Census({}, 0, None)
    submit(store, "a", now=3)
    submit(store, "b", "c", now=5, priority=Priority.LOW)
    assert store.census() == Census({0: 1, 1: 2}, 0, 3.0)
    claim(store, now=6)
    assert store.census() == Census({1: 2}, 1, 5.0)
