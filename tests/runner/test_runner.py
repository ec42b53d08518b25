"""A runner's way with a job, on the real store with the null engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.runner.bench import Bench, data_uri, wait_for

from hidream_edit.domain.blobs import BlobFacts
from hidream_edit.domain.errors import BlobsUnavailable, StoreUnavailable
from hidream_edit.domain.job import JobState
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.decode import decode
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.runner import attempt
from hidream_edit.testing import NullEngine


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_an_edit_is_completed_with_pictures_that_exist(bench: Bench) -> None:
    bench.submit(output_format="png")
    job = bench.work()
    assert job.state is JobState.COMPLETED
    assert job.output is not None
    (image,) = job.output["images"]
    data = b"".join(bench.blobs.read(image["blob"], now=time.time()))
    assert decode(data).rgb[:3] == bytes((55, 155, 255))
    assert (image["width"], image["height"], image["content_type"]) == (6, 4, "image/png")
    assert (job.output["seed"], job.output["has_nsfw_concepts"]) == (5, [])


def test_each_step_is_a_log_line(bench: Bench) -> None:
    bench.submit()
    bench.work()
    messages = [event.message for event in bench.store.events("a")]
    assert [message for message in messages if message.startswith("step")] == [f"step {n} of 3" for n in (1, 2, 3)]
    assert any("not checked" in message for message in messages)


@pytest.mark.parametrize(
    ("url", "instruction", "kind", "field"),
    [
        ("data:image/png;base64,AAAA", "x", "image_load_error", "image_url"),
        ("data:,%PDF-1.4", "x", "unsupported_image_format", "image_url"),
        (None, "fail", "internal_server_error", None),
    ],
)
def test_a_job_that_cannot_be_done_fails_with_its_reason(
    bench: Bench, url: str | None, instruction: str, kind: str, field: str | None
) -> None:
    bench.submit(url=url, instruction=instruction)
    job = bench.work()
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert (job.failure.kind, job.failure.field) == (kind, field)
    assert "null engine" not in job.failure.message


def test_a_failure_harms_no_other_job(bench: Bench) -> None:
    bench.submit("bad", instruction="fail")
    bench.submit("good")
    assert [bench.work().state, bench.work().state] == [JobState.FAILED, JobState.COMPLETED]


def test_a_cancellation_takes_effect_at_the_next_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NullEngine(seconds_per_step=0.06, steps=50))
    bench.submit()
    thread = threading.Thread(target=bench.runner.run)
    thread.start()
    wait_for(lambda: len(bench.store.events("a")) > 4)
    bench.store.cancel("a", now=time.time())
    seen = len(bench.store.events("a"))
    wait_for(lambda: bench.store.get("a").state is JobState.CANCELLED)
    assert len(bench.store.events("a")) <= seen + 2
    bench.runner.drain()
    thread.join(timeout=10)
    bench.store.close()


def test_draining_finishes_the_current_job_and_takes_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NullEngine(seconds_per_step=0.02, steps=10))
    bench.submit("a")
    bench.submit("b")
    thread = threading.Thread(target=bench.runner.run)
    thread.start()
    wait_for(lambda: bench.store.get("a").state is JobState.RUNNING)
    bench.runner.drain()
    thread.join(timeout=10)
    assert [bench.store.get(name).state for name in "ab"] == [JobState.COMPLETED, JobState.QUEUED]
    bench.store.close()


def test_in_a_hurry_the_current_job_goes_back_to_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NullEngine(seconds_per_step=0.02, steps=50))
    bench.submit("a")
    thread = threading.Thread(target=bench.runner.run)
    thread.start()
    wait_for(lambda: len(bench.store.events("a")) > 4)
    bench.runner.hurry()
    thread.join(timeout=10)
    job = bench.store.get("a")
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    bench.store.close()


def test_a_store_that_does_not_answer_for_a_while_does_not_end_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    failures = iter([1, 1, 1])

    def flaky(*args: Any, **fields: Any) -> Any:
        if next(failures, None):
            raise StoreUnavailable("gone")
        return SqliteStore.claim(bench.store, *args, **fields)

    monkeypatch.setattr(bench.store, "claim", flaky)
    bench.submit()
    thread = threading.Thread(target=bench.runner.run)
    thread.start()
    wait_for(lambda: bench.store.get("a").state is JobState.COMPLETED)
    bench.runner.drain()
    thread.join(timeout=10)
    bench.store.close()


def test_the_next_job_is_edited_while_the_pictures_of_the_last_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    disk_is_free = threading.Event()
    put = bench.blobs.put

    def slow(*args: Any, **fields: Any) -> Any:
        disk_is_free.wait(10)
        return put(*args, **fields)

    monkeypatch.setattr(bench.blobs, "put", slow)
    for name in "abcd":
        bench.submit(name)
    thread = threading.Thread(target=bench.runner.run)
    thread.start()
    wait_for(lambda: bench.store.get("c").state is JobState.RUNNING)
    assert bench.store.get("a").state is bench.store.get("b").state is JobState.RUNNING
    time.sleep(0.1)
    assert bench.store.get("d").state is JobState.QUEUED  # whoever edits faster than it can save has to wait
    disk_is_free.set()
    wait_for(lambda: bench.store.get("d").state is JobState.COMPLETED)
    assert {bench.store.get(name).state for name in "abc"} == {JobState.COMPLETED}
    bench.runner.drain()
    thread.join(timeout=10)
    bench.store.close()


def test_a_store_that_is_away_when_a_job_ends_is_asked_again_and_the_work_is_not_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, failures = bench.store.complete, iter([1, 1])

    def flaky(*args: Any, **fields: Any) -> Any:
        if next(failures, None):
            raise StoreUnavailable("gone")
        return complete(*args, **fields)

    monkeypatch.setattr(bench.store, "complete", flaky)
    monkeypatch.setattr("hidream_edit.runner.attempt.RETRY_SECONDS", 0.01)
    bench.submit()
    job = bench.work()
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


def test_a_store_that_is_away_during_an_edit_gets_its_log_lines_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(bench.store, "append_events", gone)
    monkeypatch.setattr("hidream_edit.runner.job_log.FLUSH_SECONDS", 0.0)
    bench.submit()
    assert bench.work().state is JobState.COMPLETED
    told = [event.message for event in bench.store.events("a")]
    assert [text for text in told if text.startswith("step")] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]


def test_pictures_that_cannot_be_saved_fail_the_job_and_not_the_runner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(bench.blobs, "put", full)
    bench.submit()
    job = bench.work()
    assert job.failure is not None
    assert job.failure.kind == "internal_server_error"


class Redness:
    """Flags pictures that are more red than blue."""

    name = "redness"

    def flagged(self, pictures: Sequence[Picture]) -> list[bool]:
        return [picture.rgb[0] > picture.rgb[2] for picture in pictures]


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, safety=Redness())
    yield made
    made.store.close()


def test_a_flagged_source_is_refused_before_anything_is_edited(checked: Bench) -> None:
    checked.submit(url=data_uri((200, 0, 0)))
    job = checked.work()
    assert job.failure is not None
    assert (job.failure.kind, job.failure.field) == ("content_policy_violation", "image_url")
    assert not [event for event in checked.store.events("a") if event.message.startswith("step")]


def test_a_flagged_result_is_black_and_says_so(checked: Bench) -> None:
    checked.submit(url=data_uri((0, 0, 200)), output_format="png")  # the null engine inverts it
    job = checked.work()
    assert job.output is not None
    assert job.output["has_nsfw_concepts"] == [True]
    (image,) = job.output["images"]
    assert set(decode(b"".join(checked.blobs.read(image["blob"], now=time.time()))).rgb) == {0}
    assert any("shown black" in event.message for event in checked.store.events("a"))


def test_a_clean_result_is_false_and_nothing_is_said_where_nobody_asked(checked: Bench) -> None:
    checked.submit("a", url=data_uri((100, 0, 100)))
    checked.submit("b", url=data_uri((0, 0, 200)), enable_safety_checker=False)
    for name in "ab":
        job = checked.work()
        assert job.output is not None
        assert job.output["has_nsfw_concepts"] == [False], name
    assert not any("checker" in event.message for name in "ab" for event in checked.store.events(name))


def test_without_a_checker_nothing_is_said_of_a_picture_that_was_to_be_checked(bench: Bench) -> None:
    bench.submit()
    job = bench.work()
    assert job.output is not None
    assert job.output["has_nsfw_concepts"] == []


@pytest.mark.parametrize("trouble", [BlobsUnavailable("away"), StoreUnavailable("away")])
def test_files_that_are_away_or_whose_facts_cannot_be_written_are_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(attempt, "BLOBS_RETRY_SECONDS", 0.01)
    put, failures = bench.blobs.put, iter(range(3))

    def away_at_first(*arguments: Any, **fields: Any) -> BlobFacts:
        if next(failures, None) is not None:
            raise trouble
        return put(*arguments, **fields)

    monkeypatch.setattr(bench.blobs, "put", away_at_first)
    bench.submit()
    job = bench.work()
    assert job.state is JobState.COMPLETED
    assert job.attempt == 1


def test_files_that_stay_away_bring_the_job_back_to_the_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> BlobFacts:
        raise BlobsUnavailable("away")

    monkeypatch.setattr(attempt, "BLOBS_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(attempt, "BLOBS_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(bench.blobs, "put", away)
    bench.submit()
    assert bench.work().state is JobState.QUEUED
