"""What the API keeps in memory, and how it writes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hidream_edit.domain.errors import JobNotFound, QueueFull, StoreUnavailable
from hidream_edit.domain.interfaces import Submit
from hidream_edit.domain.job import Job, JobState, NewJob
from hidream_edit.queue.hints import waited
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.queue.submitter import Submitter
from hidream_edit.queue.watcher import Watcher


def new(name: str, caller: str = "c") -> NewJob:
    return NewJob(id=name, caller=caller, input={})


class CountingStore(SqliteStore):
    """Counts its commits and its lookups of single jobs."""

    commits, lookups = 0, 0

    def submit_all(self, submits: Sequence[Submit], *, now: float) -> list[Job | QueueFull]:
        self.commits += 1
        return super().submit_all(submits, now=now)

    def get(self, job_id: str) -> Job:
        self.lookups += 1
        return super().get(job_id)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[CountingStore, Watcher, Submitter]]:
    store = CountingStore(folder / "jobs.sqlite3", synchronous="normal")
    watcher, submitter = Watcher(store, lambda: 1.0), Submitter(store, lambda: 1.0)
    watcher.start()
    submitter.start()
    try:
        yield store, watcher, submitter
    finally:
        submitter.stop()
        watcher.stop()
        store.close()


def test_submits_that_come_together_share_commits_and_each_is_answered(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[Job], int]:
        async with running(tmp_path) as (store, _, submitter):
            jobs = await asyncio.gather(*(submitter.submit(Submit(new(f"j{n}"))) for n in range(100)))
            return jobs, store.commits

    jobs, commits = asyncio.run(scenario())
    assert [job.id for job in jobs] == [f"j{n}" for n in range(100)]
    assert commits < 30


def test_a_refused_submit_harms_no_other_of_its_group(tmp_path: Path) -> None:
    async def scenario() -> list[Any]:
        async with running(tmp_path) as (_, _, submitter):
            submits = [Submit(new("a")), Submit(new("b"), waiting_max=0), Submit(new("c"))]
            return await asyncio.gather(*map(submitter.submit, submits), return_exceptions=True)

    first, refused, third = asyncio.run(scenario())
    assert (first.id, third.id) == ("a", "c")
    assert isinstance(refused, QueueFull)


def test_when_the_store_fails_nobody_is_told_that_a_job_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("full")

    async def scenario() -> list[Any]:
        async with running(tmp_path) as (store, _, submitter):
            monkeypatch.setattr(store, "submit_all", fail)
            failed = await asyncio.gather(*(submitter.submit(Submit(new(n))) for n in "ab"), return_exceptions=True)
            monkeypatch.undo()
            return [*failed, await submitter.submit(Submit(new("c")))]

    first, second, third = asyncio.run(scenario())
    assert isinstance(first, StoreUnavailable)
    assert isinstance(second, StoreUnavailable)
    assert third.id == "c"


def test_a_poll_of_a_known_job_costs_no_query(tmp_path: Path) -> None:
    async def scenario() -> int:
        async with running(tmp_path) as (store, watcher, submitter):
            await submitter.submit(Submit(new("a")))
            await watcher.get("a")
            before = store.lookups
            for _ in range(50):
                await watcher.get("a")
            return store.lookups - before

    assert asyncio.run(scenario()) == 0


def test_changes_of_another_process_arrive_and_end_what_follows_them(tmp_path: Path) -> None:
    async def scenario() -> list[JobState]:
        async with running(tmp_path) as (_, watcher, submitter):
            await submitter.submit(Submit(new("a")))
            other = SqliteStore(tmp_path / "jobs.sqlite3", synchronous="normal")
            states: list[JobState] = []
            async for job in watcher.follow("a", idle_seconds=5):
                assert job is not None
                states.append(job.state)
                if job.state is JobState.QUEUED:
                    await asyncio.to_thread(other.claim, runner_id="r", now=1, lease_seconds=9)
                elif job.state is JobState.RUNNING:
                    await asyncio.to_thread(other.complete, "a", str(job.lease_token), {}, now=2)
            other.close()
            return states

    assert asyncio.run(scenario()) == [JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED]


def test_following_a_job_that_does_not_change_yields_nothing_new_now_and_then(tmp_path: Path) -> None:
    async def scenario() -> list[Job | None]:
        async with running(tmp_path) as (_, watcher, submitter):
            await submitter.submit(Submit(new("a")))
            seen = []
            async for job in watcher.follow("a", idle_seconds=0.01):
                seen.append(job)
                if len(seen) == 3:
                    break
            return seen

    first, *rest = asyncio.run(scenario())
    assert first is not None
    assert rest == [None, None]


def test_an_unknown_job_is_not_found_and_not_remembered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as (_, watcher, _):
            for _ in range(2):
                with pytest.raises(JobNotFound):
                    await watcher.get("nobody")

    asyncio.run(scenario())


def test_positions_follow_the_line(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[int], int]:
        async with running(tmp_path) as (store, watcher, submitter):
            for name in "abc":
                watcher.seen(await submitter.submit(Submit(new(name))))
            before = [await watcher.position(name) for name in "abc"]
            watcher.seen(await asyncio.to_thread(store.cancel, "a", now=2))
            await asyncio.sleep(0.3)
            return before, await watcher.position("c")

    assert asyncio.run(scenario()) == ([0, 1, 2], 1)


def test_counts_say_what_is_in_memory(tmp_path: Path) -> None:
    async def scenario() -> dict[JobState, int]:
        async with running(tmp_path) as (_, watcher, submitter):
            watcher.seen(await submitter.submit(Submit(new("a"))))
            return watcher.counts()

    assert asyncio.run(scenario())[JobState.QUEUED] == 1


def test_looking_ends_with_the_change_or_with_the_time() -> None:
    numbers = itertools.chain([1, 1, 2], itertools.repeat(2))
    assert waited(lambda: next(numbers), 1, seconds_max=5, pause=lambda _: None) == 2
    assert waited(lambda: 1, 1, seconds_max=0.01, pause=time.sleep) == 1
