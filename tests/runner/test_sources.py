"""Sources that are read ahead of their turn."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.runner.bench import Bench, data_uri, wait_for

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.errors import FetchFailed, StoreUnavailable
from hidream_edit.domain.interfaces import RunnerFacts, RunnerState
from hidream_edit.domain.job import JobState, NewJob, Priority
from hidream_edit.pictures.isolated import PicturesHere
from hidream_edit.pictures.sources import from_data_uri
from hidream_edit.runner import sources
from hidream_edit.runner.beside import Beside
from hidream_edit.runner.sources import SourcesAhead
from hidream_edit.telemetry.traces import NO_TRACES
from hidream_edit.testing import NullEngine
from hidream_edit.testing.memory_store import MemoryStore

URL = "https://pictures.example/once"


class Later:
    """Stands where the thread stands; does what it was given when it is told to."""

    def __init__(self) -> None:
        self._work: Callable[[], object] | None = None

    def give(self, work: Callable[[], object]) -> None:
        self._work = work

    def catch_up(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()


class Desk:
    """A store whose jobs' sources are counted as they are read."""

    def __init__(self) -> None:
        self.store, self.beside, self.read = MemoryStore(), Later(), []
        self.is_wanted = True
        self.ahead = SourcesAhead(
            self.store, self._source, PicturesHere(), NO_TRACES, self.beside,
            clock=lambda: 100.0, is_wanted=lambda: self.is_wanted,
        )  # fmt: skip

    def _source(self, image_url: str) -> bytes:
        self.read.append(image_url)
        if image_url == "blob:gone":
            raise FetchFailed("gone")
        buffer = io.BytesIO()
        Image.new("RGB", (6, 4)).save(buffer, "PNG")
        return buffer.getvalue()

    def submit(self, name: str, url: str | None = None, priority: Priority = Priority.NORMAL) -> None:
        request = EditRequest(url or f"blob:{name}", EditInput(edit_instruction="x"))
        self.store.submit(NewJob(id=name, caller="c", input=request.as_json(), priority=priority), now=0)

    def look(self, seconds_left: float = 0.0) -> None:
        self.ahead.look(seconds_left)
        self.beside.catch_up()

    def claim(self) -> tuple[str, bool]:
        """Who comes, and whether its picture is here."""
        self.ahead.stop_looking()
        job = self.store.claim(runner_id="r", now=100, lease_seconds=30)
        assert job is not None
        return job.id, self.ahead.taken(job.id) is not None


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(sources, "SECONDS_BETWEEN", 0.0)
    return Desk()


def test_the_picture_of_the_next_job_is_here_when_it_is_claimed_and_its_source_is_read_once(desk: Desk) -> None:
    desk.submit("a")
    desk.submit("b")
    for _ in range(3):
        desk.look()
    assert desk.claim() == ("a", True)
    assert desk.ahead.taken("a") is None  # an attempt that comes again reads it again
    desk.look()
    assert desk.claim() == ("b", True)
    assert desk.read == ["blob:a", "blob:b"]


def test_a_job_whose_source_was_read_stays_in_the_line_for_whoever_claims_it(desk: Desk) -> None:
    desk.submit("a")
    before = desk.store.revision()
    desk.look()
    assert (desk.store.get("a").state, desk.store.revision()) == (JobState.QUEUED, before)
    assert desk.store.claim(runner_id="another", now=100, lease_seconds=30) is not None


def test_long_before_the_end_of_an_edit_nobody_looks(desk: Desk) -> None:
    desk.submit("a")
    desk.look(sources.AHEAD_SECONDS + 1)
    assert desk.read == []
    desk.look(sources.AHEAD_SECONDS - 1)
    assert desk.read == ["blob:a"]


def test_looks_come_with_a_pause_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SECONDS_BETWEEN", 3600.0)
    desk = Desk()
    desk.look()
    desk.submit("a")
    desk.look()
    assert desk.read == []
    desk.ahead.stop_looking()  # the next edit begins to look at once
    desk.look()
    assert desk.read == ["blob:a"]


def test_a_job_that_was_cancelled_makes_room_for_the_next(desk: Desk) -> None:
    desk.submit("a")
    desk.submit("b")
    desk.look()
    desk.store.cancel("a", now=1)
    desk.look()
    assert desk.claim() == ("b", True)
    assert desk.read == ["blob:a", "blob:b"]


def test_a_job_that_comes_before_the_guess_takes_its_place(desk: Desk) -> None:
    desk.submit("low", priority=Priority.LOW)
    desk.look()
    desk.submit("a")
    desk.look()
    assert [desk.claim(), desk.claim()] == [("a", True), ("low", False)]
    assert desk.read == ["blob:low", "blob:a"]


def test_an_address_is_not_read_while_another_runner_could_claim_its_job(desk: Desk) -> None:
    for name in ("me", "another"):
        desk.store.announce(RunnerFacts(name, RunnerState.READY, "null", 99.0))
    desk.submit("a", URL)
    desk.look()
    assert desk.read == []
    desk.store.dismiss("another")
    desk.look()
    assert desk.claim() == ("a", True)
    assert desk.read == [URL]


def test_what_was_downloaded_is_kept_when_a_more_urgent_job_comes_so_that_nothing_is_downloaded_twice(
    desk: Desk,
) -> None:
    desk.submit("low", URL, Priority.LOW)
    desk.look()
    desk.submit("a")
    desk.look()
    assert desk.claim() == ("a", False)
    assert desk.claim() == ("low", True)
    assert desk.read == [URL]


def test_a_download_whose_job_is_gone_makes_room(desk: Desk) -> None:
    desk.submit("a", URL)
    desk.look()
    desk.store.cancel("a", now=1)
    desk.store.prune(now=1e9)
    desk.submit("b")
    desk.look()
    assert desk.claim() == ("b", True)


def test_a_source_that_cannot_be_read_is_tried_once_and_left_to_the_attempt(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.submit("a", "blob:gone")
    desk.look()
    desk.look()
    assert desk.read == ["blob:gone"]
    assert desk.claim() == ("a", False)
    assert {record.levelname for record in caplog.records} <= {"DEBUG"}


def test_a_picture_that_is_too_large_to_be_kept_is_left_to_the_attempt(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "AHEAD_BYTES_MAX", 6 * 4 * 3 - 1)
    desk.submit("a")
    desk.look()
    assert desk.claim() == ("a", False)


def test_a_look_that_comes_late_does_not_give_up_what_is_about_to_be_claimed(desk: Desk) -> None:
    desk.submit("a")
    desk.submit("b")
    desk.look()
    desk.ahead.look(0.0)  # the thread has not come to it yet
    desk.ahead.stop_looking()
    assert desk.store.claim(runner_id="r", now=100, lease_seconds=30) is not None
    desk.beside.catch_up()
    assert desk.ahead.taken("a") is not None
    assert desk.read == ["blob:a"]


def test_where_nobody_waits_nothing_is_kept(desk: Desk) -> None:
    desk.submit("a")
    desk.look()
    desk.ahead.forget()
    assert desk.ahead.taken("a") is None
    desk.look()
    desk.store.cancel("a", now=1)
    desk.look()
    assert desk.ahead.taken("a") is None


def test_whoever_takes_no_more_jobs_reads_nothing_ahead(desk: Desk) -> None:
    desk.submit("a")
    desk.is_wanted = False
    desk.look()
    assert desk.read == []


def test_a_store_that_does_not_answer_costs_the_guess_and_nothing_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: float) -> None:
        raise StoreUnavailable("away")

    desk.submit("a")
    with monkeypatch.context() as without:
        without.setattr(desk.store, "next_in_line", away)
        desk.look()
    assert desk.claim() == ("a", False)


def test_a_job_that_is_claimed_while_its_source_is_read_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, is_reading, may_go_on = Desk(), threading.Event(), threading.Event()
    source = desk.ahead._read_source

    def slow(image_url: str) -> bytes:
        is_reading.set()
        assert may_go_on.wait(10)
        return source(image_url)

    beside = Beside("t")
    monkeypatch.setattr(desk.ahead, "_read_source", slow)
    monkeypatch.setattr(desk.ahead, "_beside", beside)
    desk.submit("a")
    desk.ahead.look(0.0)
    assert is_reading.wait(10)
    threading.Timer(0.05, may_go_on.set).start()
    assert desk.claim() == ("a", True)
    assert desk.read == ["blob:a"]
    beside.close()


class UntilRead(NullEngine):
    """The first edit lasts until the source of the second was read, or for good."""

    def __init__(self, read: list[str]) -> None:
        super().__init__()
        self._read = read

    def edit(self, source, edit_input):  # type: ignore[no-untyped-def]
        for number, progress in enumerate(super().edit(source, edit_input)):
            if number == 2:
                wait_for(lambda: len(self._read) == 2)
            yield progress


def test_a_runner_reads_the_source_of_the_next_job_during_the_edit_of_the_last(tmp_path: Path) -> None:
    read: list[str] = []
    bench = Bench(tmp_path, UntilRead(read))

    def source(image_url: str) -> bytes:
        read.append(image_url)
        return from_data_uri(image_url)

    bench.runner._ahead._read_source = source
    object.__setattr__(bench.runner._tools, "read_source", source)
    for name, colour in (("a", (1, 2, 3)), ("b", (4, 5, 6))):
        bench.submit(name, data_uri(colour))
    thread = threading.Thread(target=bench.runner.run)
    thread.start()
    wait_for(lambda: bench.store.get("b").state is JobState.COMPLETED)
    bench.runner.drain()
    thread.join(timeout=10)
    assert read == [data_uri((1, 2, 3)), data_uri((4, 5, 6))]
    bench.store.close()
