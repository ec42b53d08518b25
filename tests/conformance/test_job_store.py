"""What every job store must do. The suite is the contract; a store is added by adding it to STORES."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.postgres import new_database

from hidream_edit.domain.deliveries import DeliveryAttempt
from hidream_edit.domain.errors import CallerLimited, JobFinished, JobNotFound, LeaseLost, QueueFull
from hidream_edit.domain.interfaces import JobStore, RunnerFacts, RunnerState, Submit
from hidream_edit.domain.job import EventLevel, Failure, Job, JobState, NewEvent, NewJob, Priority
from hidream_edit.domain.measures import EDIT_SECONDS, Census, Observation, observed
from hidream_edit.domain.quotas import Quota
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.testing.memory_store import MemoryStore

STORES: dict[str, Callable[[Path], JobStore]] = {
    "sqlite": lambda folder: SqliteStore(folder / "jobs.sqlite3", synchronous="normal"),
    "postgres": lambda _: PostgresStore(new_database()),
    "memory": lambda _: MemoryStore(),
}
LEASE = 30.0
INPUT = {"image_url": "data:,x"}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    opened = STORES[request.param](tmp_path)
    yield opened
    opened.close()


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


def test_the_recent_jobs_are_those_submitted_last(store: JobStore) -> None:
    submit(store, "a", "b", "c")
    store.cancel("a", now=1)
    assert [job.id for job in store.recent(2)] == ["c", "b"]


def test_an_unknown_id_is_not_found(store: JobStore) -> None:
    with pytest.raises(JobNotFound):
        store.get("nobody")
    with pytest.raises(JobNotFound):
        store.cancel("nobody", now=0)
    assert store.events("nobody") == []


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


def test_a_job_ends_once(store: JobStore) -> None:
    submit(store, "a")
    lease = token(claim(store))
    store.complete("a", lease, {}, now=2)
    with pytest.raises(LeaseLost):
        store.complete("a", lease, {}, now=3)
    with pytest.raises(JobFinished):
        store.cancel("a", now=3)


def test_a_heartbeat_extends_the_lease_and_hears_of_cancellations(store: JobStore) -> None:
    submit(store, "a", "b")
    first, second = claim(store), claim(store)
    store.cancel("b", now=2)
    held = store.extend([token(first), token(second), "unknown"], now=10, lease_seconds=LEASE)
    assert held == {token(first): False, token(second): True}
    assert store.rescue(now=1.0 + LEASE) == []
    assert store.get("a").lease_expires_at == 10 + LEASE


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


def test_the_last_events_are_written_with_the_end(store: JobStore) -> None:
    submit(store, "a")
    store.complete("a", token(claim(store)), {}, now=2, events=[NewEvent(1, "last")])
    assert [event.message for event in store.events("a")] == ["last"]


def test_the_same_key_of_the_same_caller_is_the_same_job(store: JobStore) -> None:
    first = store.submit(new("a", idempotency_key="k"), now=0)
    assert store.submit(new("b", idempotency_key="k"), now=1) == first
    assert store.submit(new("c", caller="bob", idempotency_key="k"), now=1).id == "c"


def test_events_are_numbered_and_read_from_a_number_on(store: JobStore) -> None:
    submit(store, "a")
    lease = token(claim(store))
    store.append_events("a", lease, [NewEvent(1, "one"), NewEvent(2, "two", EventLevel.WARN, {"step": 3})])
    store.append_events("a", lease, [NewEvent(3, "three")])
    assert [(event.number, event.message) for event in store.events("a")] == [(1, "one"), (2, "two"), (3, "three")]
    (_, two, _) = store.events("a")
    assert (two.level, two.facts) == (EventLevel.WARN, {"step": 3})
    assert [event.number for event in store.events("a", after=2)] == [3]


def test_watchers_see_every_change_in_its_order(store: JobStore) -> None:
    before = store.revision()
    submit(store, "a", "b")
    lease = token(claim(store))
    store.append_events("a", lease, [NewEvent(1, "one")])
    changed = store.changed_since(before)
    assert [job.id for job in changed] == ["b", "a"]
    assert changed[-1].revision == store.revision()
    store.complete("a", lease, {}, now=2)
    assert [job.state for job in store.changed_since(changed[-1].revision)] == [JobState.COMPLETED]


def test_waiting_ends_with_a_change_or_with_the_time(store: JobStore) -> None:
    revision = store.revision()
    assert store.wait(revision, seconds_max=0.01) == revision
    thread = threading.Timer(0.05, lambda: submit(store, "a"))
    thread.start()
    assert store.wait(revision, seconds_max=10) > revision
    thread.join()


def test_a_submit_whose_input_is_wrong_has_failed_at_once(store: JobStore) -> None:
    job = store.submit(new("a"), now=3, failure=Failure("validation", "no image_url"))
    assert (job.state, job.finished_at) == (JobState.FAILED, 3)
    assert store.claim(runner_id="r", now=4, lease_seconds=LEASE) is None


def test_a_runner_hears_of_a_cancellation_with_its_next_event(store: JobStore) -> None:
    submit(store, "a")
    lease = token(claim(store))
    assert store.append_events("a", lease, [NewEvent(1, "one")]) is False
    store.cancel("a", now=2)
    assert store.append_events("a", lease, [NewEvent(3, "two")]) is True


def test_runners_announce_themselves_and_fall_silent(store: JobStore) -> None:
    store.announce(RunnerFacts("r1", RunnerState.LOADING, "mini", 10.0))
    store.announce(RunnerFacts("r2", RunnerState.READY, "mini", 11.0))
    store.announce(RunnerFacts("r1", RunnerState.READY, "mini", 20.0, {"guidance_scale": 1}, "cuda:0"))
    assert [runner.id for runner in store.runners(since=15)] == ["r1"]
    ready = store.runners(since=0)[0]
    assert (ready.state, ready.device, ready.defaults) == (RunnerState.READY, "cuda:0", {"guidance_scale": 1})
    store.dismiss("r1")
    assert [runner.id for runner in store.runners(since=0)] == ["r2"]


def test_old_results_are_pruned_with_their_events(store: JobStore) -> None:
    submit(store, "a", "b", keep_seconds=100.0)
    lease = token(claim(store))
    store.append_events("a", lease, [NewEvent(1, "one")])
    store.complete("a", lease, {}, now=10)
    assert store.prune(now=109) == 0
    assert store.prune(now=110) == 1
    assert store.events("a") == []
    assert store.get("b").state is JobState.QUEUED


def test_a_callers_jobs_come_newest_first_and_by_their_words(store: JobStore) -> None:
    for name, words in (("a", "Make it Night"), ("b", "100% snow"), ("c", "make it day")):
        store.submit(new(name, instruction=words), now=0)
    submit(store, "other", caller="bob")
    assert [job.id for job in store.of_caller("alice", limit=9)] == ["c", "b", "a"]
    assert [job.id for job in store.of_caller("alice", limit=2)] == ["c", "b"]
    second = store.of_caller("alice", limit=2)[-1].sequence
    assert [job.id for job in store.of_caller("alice", limit=2, before=second)] == ["a"]
    assert [job.id for job in store.of_caller("alice", limit=9, words="MAKE IT")] == ["c", "a"]
    assert [job.id for job in store.of_caller("alice", limit=9, words="0%")] == ["b"]
    assert store.of_caller("alice", limit=9, words="_") == []


def test_the_owner_sees_what_became_of_deliveries_and_may_repeat_one(store: JobStore) -> None:
    for name in ("a", "b"):
        submit(store, name, webhook_url=f"https://hooks.example/{name}")
        job = claim(store)
        store.complete(job.id, token(job), {"images": []}, now=2)
    assert [(one.job_id, one.state) for one in store.deliveries(9)] == [("b", "pending"), ("a", "pending")]
    first = store.claim_delivery(now=3, lease_seconds=9)
    assert first is not None
    store.record_attempt(first, DeliveryAttempt(3, 0.1, 200, None), next_at=None)
    second = store.claim_delivery(now=3, lease_seconds=9)
    assert second is not None
    store.record_attempt(second, DeliveryAttempt(3, 0.1, 500, "answered 500"), next_at=None)
    assert {one.job_id: (one.state, one.error) for one in store.deliveries(9)} == {
        "a": ("delivered", None),
        "b": ("failed", "answered 500"),
    }
    assert store.claim_delivery(now=9e9, lease_seconds=9) is None
    assert store.redeliver("b", now=4)
    again = store.claim_delivery(now=4, lease_seconds=9)
    assert again is not None
    assert (again.job_id, again.attempt) == ("b", 2)
    assert not store.redeliver("no such job", now=4)


def test_a_runner_says_what_it_is_good_at_and_how_much_memory_it_takes(store: JobStore) -> None:
    facts = RunnerFacts("r1", RunnerState.READY, "mini", 5.0, examples=("make it night", "snow"), memory_bytes=2**33)
    store.announce(facts)
    assert store.runners(since=0) == [facts]


def test_the_census_counts_who_waits_by_priority_since_when_and_who_runs(store: JobStore) -> None:
    assert store.census() == Census({}, 0, None)
    submit(store, "a", now=3)
    submit(store, "b", "c", now=5, priority=Priority.LOW)
    assert store.census() == Census({0: 1, 1: 2}, 0, 3.0)
    claim(store, now=6)
    assert store.census() == Census({1: 2}, 1, 5.0)


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


def test_a_webhook_that_failed_counts_by_whether_it_is_tried_again(store: JobStore) -> None:
    submit(store, "a", webhook_url="https://x")
    store.complete("a", token(claim(store)), {}, now=2)
    for error, next_at in (("answered 500", 3.0), ("answered 500", None)):
        delivery = store.claim_delivery(now=3, lease_seconds=0)
        assert delivery is not None
        store.record_attempt(delivery, DeliveryAttempt(3.0, 0.1, 500, error), next_at=next_at)
    failures = {one.label: one.number for one in store.measures() if one.name == "webhook_failures"}
    assert failures == {"tried_again": 1, "given_up": 1}


def test_a_try_that_was_overtaken_is_written_down_and_decides_nothing(store: JobStore) -> None:
    submit(store, "a", webhook_url="https://x")
    store.complete("a", token(claim(store)), {}, now=2)
    slow = store.claim_delivery(now=3, lease_seconds=9)
    fast = store.claim_delivery(now=20, lease_seconds=9)
    assert slow is not None
    assert fast is not None
    store.record_attempt(fast, DeliveryAttempt(21, 0.1, 200, None), next_at=None)
    store.record_attempt(slow, DeliveryAttempt(22, 19.0, None, "no answer"), next_at=30.0)
    assert store.claim_delivery(now=9e9, lease_seconds=9) is None
    assert [one.error for one in store.attempts("a")] == ["no answer", None]
    assert [one.state for one in store.deliveries(9)] == ["delivered"]
