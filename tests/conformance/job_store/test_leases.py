"""Who holds a lease may write; what becomes of a job whose runner is lost or stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.conformance.job_store.calls import LEASE, claim, submit, token

from hidream_edit.domain.errors import LeaseLost
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import Failure, JobState, NewEvent


@pytest.mark.parametrize("write", ["complete", "fail", "stop", "hand_back", "append_events"])
def test_a_runner_that_lost_its_lease_can_write_nothing(store: JobStore, write: str) -> None:
    submit(store, "a")
    old = token(claim(store, now=1.0))
    store.rescue(now=1.0 + LEASE)
    current = claim(store, now=50.0, runner_id="r2")
    writes: dict[str, Callable[[], object]] = {
        "complete": lambda: store.complete("a", old, {}, now=51),
        "fail": lambda: store.fail("a", old, Failure("x", "x"), now=51),
        "stop": lambda: store.stop("a", old, now=51),
        "hand_back": lambda: store.hand_back("a", old, now=51),
        "append_events": lambda: store.append_events("a", old, [NewEvent(51, "late")]),
    }
    with pytest.raises(LeaseLost):
        writes[write]()
    assert store.get("a") == current
    assert store.extend([old], now=51, lease_seconds=LEASE) == {}


def test_a_heartbeat_extends_the_lease_and_hears_of_cancellations(store: JobStore) -> None:
    submit(store, "a", "b")
    first, second = claim(store), claim(store)
    store.cancel("b", now=2)
    held = store.extend([token(first), token(second), "unknown"], now=10, lease_seconds=LEASE)
    assert held == {token(first): False, token(second): True}
    assert store.rescue(now=1.0 + LEASE) == []
    assert store.get("a").lease_expires_at == 10 + LEASE


def test_a_runner_hears_of_a_cancellation_with_its_next_event(store: JobStore) -> None:
    submit(store, "a")
    lease = token(claim(store))
    assert store.append_events("a", lease, [NewEvent(1, "one")]) is False
    store.cancel("a", now=2)
    assert store.append_events("a", lease, [NewEvent(3, "two")]) is True


def test_a_queued_job_is_cancelled_at_once(store: JobStore) -> None:
    submit(store, "a")
    assert store.cancel("a", now=4).state is JobState.CANCELLED
    assert store.claim(runner_id="r", now=5, lease_seconds=LEASE) is None


def test_a_running_job_is_asked_and_stops_when_its_runner_obeys(store: JobStore) -> None:
    submit(store, "a")
    job = claim(store)
    asked = store.cancel("a", now=4)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    assert store.stop("a", token(job), now=5).state is JobState.CANCELLED


def test_a_lost_runners_job_goes_back_to_its_old_place(store: JobStore) -> None:
    submit(store, "a", "b")
    claim(store, now=1.0)
    assert [job.id for job in store.rescue(now=1.0 + LEASE)] == ["a"]
    again = claim(store, now=40.0)
    assert (again.id, again.attempt) == ("a", 2)
    assert "lost" in store.events("a")[-1].message


def test_after_the_last_attempt_a_lost_job_fails(store: JobStore) -> None:
    submit(store, "a", attempts_max=2)
    for now in (0.0, 100.0):
        claim(store, now=now)
        (job,) = store.rescue(now=now + LEASE)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.kind == "runner_disconnected"


def test_a_lost_job_that_was_asked_to_cancel_is_cancelled(store: JobStore) -> None:
    submit(store, "a")
    claim(store, now=0.0)
    store.cancel("a", now=1)
    assert [job.state for job in store.rescue(now=LEASE)] == [JobState.CANCELLED]


def test_handing_back_costs_no_attempt(store: JobStore) -> None:
    submit(store, "a", "b")
    job = store.hand_back("a", token(claim(store)), now=2)
    assert (job.state, job.attempt, job.started_at) == (JobState.QUEUED, 0, None)
    assert claim(store).id == "a"
