"""What those see who follow, look back and wait."""

from __future__ import annotations

import threading

import pytest
from tests.conformance.job_store.calls import claim, new, submit, token

from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import EventLevel, JobState, NewEvent


def test_an_unknown_id_is_not_found(store: JobStore) -> None:
    with pytest.raises(JobNotFound):
        store.get("nobody")
    with pytest.raises(JobNotFound):
        store.cancel("nobody", now=0)
    assert store.events("nobody") == []


def test_the_recent_jobs_are_those_submitted_last(store: JobStore) -> None:
    submit(store, "a", "b", "c")
    store.cancel("a", now=1)
    assert [job.id for job in store.recent(2)] == ["c", "b"]


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
