"""Random histories of each store, compared move by move with the one in plain Python.

`make histories` runs many more of them; a failing history is printed as the calls that lead to it.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.postgres import new_database

from hidream_edit.domain.deliveries import Delivery, DeliveryAttempt
from hidream_edit.domain.errors import HidreamEditError
from hidream_edit.domain.interfaces import JobStore, Submit
from hidream_edit.domain.job import EventLevel, Failure, Job, NewEvent, NewJob, Priority
from hidream_edit.domain.quotas import UNLIMITED, Quota
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.testing.memory_store import MemoryStore

LEASE, EVERYTHING = 30.0, 1000
EXAMPLES = int(os.environ.get("HISTORIES", "2000"))
ENDS = ("complete", "fail", "stop", "hand_back", "append")


class Histories(RuleBasedStateMachine):
    """The same calls to a real store and to the reference. Leases differ in their tokens only, so each side names its
    own."""

    def __init__(self) -> None:
        super().__init__()
        self.reference = MemoryStore()
        self.store = self.open()
        self.now, self.count = 0.0, 0
        self.leases: list[tuple[str, str, str]] = []  # job, token in the store, token in the reference
        self.ended: dict[str, Job] = {}
        self.deliveries: list[Delivery] = []

    def open(self) -> JobStore:
        raise NotImplementedError

    def same(self, call: Callable[[JobStore], Any], reference: Callable[[JobStore], Any] | None = None) -> Any:
        """Make a call to both; the outcome has to be the same, errors too."""
        outcomes = []
        for store, made in ((self.store, call), (self.reference, reference or call)):
            try:
                outcomes.append(made(store))
            except HidreamEditError as error:
                outcomes.append((type(error), str(error)))
        ours, theirs = outcomes
        assert _plain(ours) == _plain(theirs)
        return outcomes

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        caller=st.sampled_from(["alice", "bob"]),
        priority=st.sampled_from(Priority),
        key=st.sampled_from([None, None, "k"]),
        deadline=st.sampled_from([None, None, 5.0]),
        waiting_max=st.sampled_from([None, None, 2]),
        failure=st.sampled_from([None, None, None, Failure("validation", "wrong")]),
        webhook_url=st.sampled_from([None, "https://x"]),
        store_io=st.booleans(),
        quota=st.sampled_from([UNLIMITED, UNLIMITED, Quota(rate_per_minute=3), Quota(concurrent_max=2)]),
    )
    def submit(
        self,
        caller: str,
        priority: Priority,
        key: str | None,
        deadline: float | None,
        waiting_max: int | None,
        failure: Failure | None,
        webhook_url: str | None,
        store_io: bool,
        quota: Quota,
    ) -> None:
        new = NewJob(
            id=f"j{self.count}",
            caller=caller,
            input={"n": self.count},
            priority=priority,
            idempotency_key=key,
            start_deadline=None if deadline is None else self.now + deadline,
            attempts_max=2,
            keep_seconds=50.0,
            webhook_url=webhook_url,
            store_io=store_io,
        )
        self.count += 1
        self.same(lambda store: store.submit_all([Submit(new, waiting_max, failure, quota)], now=self.now))

    @rule()
    def claim(self) -> None:
        expected = self.same(lambda store: store.next_in_line(now=self.now))
        ours, theirs = self.same(lambda store: store.claim(runner_id="r", now=self.now, lease_seconds=LEASE))
        assert [one and one.id for one in expected] == [ours and ours.id] * 2
        if ours is not None:
            self.leases.append((ours.id, ours.lease_token, theirs.lease_token))

    @precondition(lambda self: self.leases)
    @rule(choice=st.integers(0, 99), end=st.sampled_from(ENDS), events=st.integers(0, 2))
    def write_under_lease(self, choice: int, end: str, events: int) -> None:
        job_id, ours, theirs = self.leases[choice % len(self.leases)]
        said = [NewEvent(self.now, f"line {n}", EventLevel.INFO, {"n": n}) for n in range(events)]

        def call(token: str) -> Callable[[JobStore], Any]:
            def made(store: JobStore) -> Any:
                if end == "complete":
                    return store.complete(job_id, token, {"images": []}, now=self.now, events=said)
                if end == "fail":
                    return store.fail(job_id, token, Failure("x", "y", "z", {"n": 1}), now=self.now, events=said)
                if end == "stop":
                    return store.stop(job_id, token, now=self.now, events=said)
                if end == "hand_back":
                    return store.hand_back(job_id, token, now=self.now, events=said)
                return store.append_events(job_id, token, said)

            return made

        self.same(call(ours), call(theirs))

    @precondition(lambda self: self.leases)
    @rule()
    def beat(self) -> None:
        ours = self.store.extend([one for _, one, _ in self.leases], now=self.now, lease_seconds=LEASE)
        theirs = self.reference.extend([one for _, _, one in self.leases], now=self.now, lease_seconds=LEASE)
        assert [ours.get(one) for _, one, _ in self.leases] == [theirs.get(one) for _, _, one in self.leases]

    @precondition(lambda self: self.count)
    @rule(choice=st.integers(0, 99))
    def cancel(self, choice: int) -> None:
        self.same(lambda store: store.cancel(f"j{choice % self.count}", now=self.now))

    @precondition(lambda self: self.count)
    @rule(choice=st.integers(0, 99), seconds=st.sampled_from([0.0, 20.0]))
    def keep_until(self, choice: int, seconds: float) -> None:
        job_id = f"j{choice % self.count}"
        self.same(lambda store: store.keep_until(job_id, self.now + seconds))
        self.ended.pop(job_id, None)

    @rule()
    def maintain(self) -> None:
        for name in ("rescue", "expire"):
            ours, theirs = (getattr(store, name)(now=self.now) for store in (self.store, self.reference))
            assert sorted(job.id for job in ours) == sorted(job.id for job in theirs)

    @rule()
    def prune(self) -> None:
        self.same(lambda store: store.prune(now=self.now))

    @rule()
    def claim_delivery(self) -> None:
        ours, theirs = (store.claim_delivery(now=self.now, lease_seconds=9) for store in (self.store, self.reference))
        assert ours == theirs
        if ours is not None:
            self.deliveries.append(ours)

    @precondition(lambda self: self.deliveries)
    @rule(error=st.sampled_from([None, "answered 500"]), again=st.sampled_from([None, 20.0]))
    def record_attempt(self, error: str | None, again: float | None) -> None:
        delivery = self.deliveries.pop()
        attempt = DeliveryAttempt(self.now, 0.1, 200 if error is None else 500, error)
        next_at = None if again is None else self.now + again
        for store in (self.store, self.reference):
            store.record_attempt(delivery, attempt, next_at=next_at)

    @rule(choice=st.integers(0, 99))
    def look(self, choice: int) -> None:
        job_id = f"j{choice % (self.count + 1)}"
        self.same(lambda store: store.get(job_id))
        self.same(lambda store: store.events(job_id))
        self.same(lambda store: store.attempts(job_id))

    @invariant()
    def both_know_the_same(self) -> None:
        assert [one.id for one in self.store.line()] == [one.id for one in self.reference.line()]
        assert self.store.census() == self.reference.census()
        assert self.store.measures() == self.reference.measures()
        ours, theirs = self.store.recent(EVERYTHING), self.reference.recent(EVERYTHING)
        assert [_plain(job) for job in ours] == [_plain(job) for job in theirs]
        for job in ours:
            if job.state.is_final:
                assert self.ended.setdefault(job.id, job) == job  # it ends once

    def teardown(self) -> None:
        for job_id in (f"j{n}" for n in range(self.count)):
            self.same(lambda store, job_id=job_id: store.get(job_id))
            self.same(lambda store, job_id=job_id: store.events(job_id))
        self.close()

    def close(self) -> None:
        self.store.close()


def _plain(outcome: Any) -> Any:
    """Without what differs by nature: tokens are random, and revisions count writes."""
    if isinstance(outcome, list) and outcome and isinstance(outcome[0], Exception):
        return [(type(error), str(error)) for error in outcome]
    if isinstance(outcome, list):
        return [_plain(one) for one in outcome]
    if isinstance(outcome, Job):
        return replace(outcome, lease_token=outcome.lease_token and "token", revision=0)
    return outcome


class SqliteHistories(Histories):
    @initialize()
    def begin(self) -> None:
        pass

    def open(self) -> JobStore:
        self.folder = tempfile.TemporaryDirectory()
        return SqliteStore(Path(self.folder.name) / "jobs.sqlite3", synchronous="normal")

    def close(self) -> None:
        super().close()
        self.folder.cleanup()


@cache
def postgres_store() -> PostgresStore:
    """One for all histories: making a database takes longer than a history."""
    store = PostgresStore(new_database())
    atexit.register(store.close)
    return store


class PostgresHistories(Histories):
    @initialize()
    def begin(self) -> None:
        pass

    def open(self) -> JobStore:
        store = postgres_store()
        connection = store.connection()
        connection.execute("DELETE FROM jobs")
        connection.execute("DELETE FROM buckets")
        connection.execute("DELETE FROM measures")
        connection.execute("UPDATE clock SET sequence = 0, revision = 0, turn = 0")
        return store

    def close(self) -> None:
        pass


TestHistoriesOnSqlite = SqliteHistories.TestCase
TestHistoriesOnSqlite.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None, print_blob=True)
TestHistoriesOnPostgres = PostgresHistories.TestCase
TestHistoriesOnPostgres.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, print_blob=True
)
