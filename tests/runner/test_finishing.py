"""What comes after the last step of an image: beside the next image and the next edit, and owed to the job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.runner.bench import Bench, wait_for

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import EditDone, EditStarted, ImageMade, Progress, StepDone
from hidream_edit.domain.job import Job, JobState
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.decode import decode
from hidream_edit.runner.runner import FINISHERS, RunnerLimits
from hidream_edit.testing import NullEngine

GRAY = Picture(2, 1, bytes(6))


class Finishing(NullEngine):
    """One step for each image. ``step`` is called in each with the edit's instruction and the image's number, and
    ``finish`` where its picture is made."""

    def __init__(
        self, *, step: Callable[[str, int], object] = lambda *_: None, finish: Callable[[str, int], Picture]
    ) -> None:
        super().__init__(steps=1)
        self._step, self._finish = step, finish

    def edit(self, _: Picture, edit_input: EditInput) -> Iterator[Progress]:
        settings = edit_input.settled(self._defaults, random_seed=lambda: 7)
        words, total = settings.edit_instruction, settings.num_images
        yield EditStarted(settings, words, (), total)
        for index in range(total):
            self._step(words, index)
            yield StepDone(index + 1, total, lambda: GRAY)
            yield ImageMade(lambda index=index: self._finish(words, index))  # type: ignore[misc]
        yield EditDone()


class Working:
    """A bench whose runner works on a thread of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._thread = threading.Thread(target=bench.runner.run)

    def state(self, name: str) -> JobState:
        return self.bench.store.get(name).state

    def job(self, name: str) -> Job:
        return self.bench.store.get(name)

    def reds(self, name: str) -> list[int]:
        """The first byte of each picture of the result."""
        output = self.job(name).output
        assert output is not None
        files = [b"".join(self.bench.blobs.read(image["blob"], now=time.time())) for image in output["images"]]
        return [decode(data).rgb[0] for data in files]

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.bench.runner.drain()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Callable[..., Working]]:
    made: list[Working] = []

    def work(engine: NullEngine, limits: RunnerLimits | None = None) -> Working:
        made.append(Working(Bench(tmp_path, engine, limits=limits)))
        return made[-1]

    yield work
    for working in made:
        working.end()
        working.bench.store.close()


class Gate:
    """A picture that is finished when it may be."""

    def __init__(self) -> None:
        self.is_here, self.is_open = threading.Event(), threading.Event()
        self.waiting = 0

    def __call__(self, words: str, _: int) -> Picture:
        if words == "slow":
            self.waiting += 1
            self.is_here.set()
            assert self.is_open.wait(10)
        return GRAY


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.is_open.set()


def test_the_next_job_is_edited_while_the_pictures_of_the_last_are_finished(
    works: Callable[..., Working], gate: Gate
) -> None:
    stepped: list[str] = []
    working = works(Finishing(step=lambda words, _: stepped.append(words), finish=gate))
    for name, words in (("a", "slow"), ("b", "second"), ("c", "third"), ("d", "fourth")):
        working.bench.submit(name, instruction=words)
    working.start()
    wait_for(lambda: stepped == ["slow", "second", "third"])
    time.sleep(0.1)
    assert [working.state(name) for name in "abcd"] == [JobState.RUNNING] * 3 + [JobState.QUEUED]
    gate.is_open.set()
    wait_for(lambda: working.state("d") is JobState.COMPLETED)
    assert {working.state(name) for name in "abc"} == {JobState.COMPLETED}


def test_jobs_are_saved_in_the_order_in_which_they_were_edited(works: Callable[..., Working], gate: Gate) -> None:
    made: list[str] = []

    def finish(words: str, index: int) -> Picture:
        picture = gate(words, index)
        made.append(words)
        return picture

    working = works(Finishing(finish=finish))
    working.bench.submit("a", instruction="slow")
    working.bench.submit("b", instruction="quick")
    working.start()
    wait_for(lambda: made == ["quick"])
    time.sleep(0.1)
    assert working.state("b") is JobState.RUNNING
    gate.is_open.set()
    wait_for(lambda: working.state("b") is JobState.COMPLETED)
    assert working.state("a") is JobState.COMPLETED


def test_only_so_many_pictures_are_in_hand_and_they_keep_their_order(works: Callable[..., Working], gate: Gate) -> None:
    def finish(words: str, index: int) -> Picture:
        gate(words, index)
        return Picture(1, 1, bytes((100 + index, 0, 0)))

    working = works(Finishing(finish=finish))
    working.bench.submit("a", instruction="slow", num_images=4, output_format="png")
    working.bench.submit("b", instruction="slow")
    working.start()
    wait_for(lambda: working.state("b") is JobState.RUNNING)
    time.sleep(0.1)
    assert gate.waiting == FINISHERS
    gate.is_open.set()
    wait_for(lambda: working.state("b") is JobState.COMPLETED)
    assert working.reds("a") == [100, 101, 102, 103]


def test_an_image_is_finished_while_the_next_of_its_edit_is_made(works: Callable[..., Working]) -> None:
    is_finished = threading.Event()

    def finish(_: str, index: int) -> Picture:
        is_finished.set()
        return Picture(1, 1, bytes((100 + index, 0, 0)))

    def step(_: str, index: int) -> None:
        assert index == 0 or is_finished.wait(10)

    working = works(Finishing(step=step, finish=finish))
    working.bench.submit(num_images=3, output_format="png")
    working.start()
    wait_for(lambda: working.state("a") is JobState.COMPLETED)
    assert working.reds("a") == [100, 101, 102]


def test_an_error_while_a_picture_is_finished_fails_its_job_and_no_other(
    works: Callable[..., Working], caplog: pytest.LogCaptureFixture
) -> None:
    def finish(words: str, _: int) -> Picture:
        if words == "bad":
            raise ValueError("what only the log may say")
        return GRAY

    working = works(Finishing(finish=finish))
    working.bench.submit("a", instruction="bad")
    working.bench.submit("b")
    working.start()
    wait_for(lambda: working.state("b") is JobState.COMPLETED)
    failure = working.job("a").failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        "internal_server_error",
        "the edit failed; the server's log says why",
    )
    assert "what only the log may say" in caplog.text


def test_a_job_that_is_cancelled_while_its_picture_is_finished_stores_none(
    works: Callable[..., Working], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hidream_edit.runner.job_log.FLUSH_SECONDS", 0.0)
    working = works(Finishing(finish=gate))
    monkeypatch.setattr(working.bench.blobs, "put", lambda *_, **__: pytest.fail("it was stored"))
    working.bench.submit("a", instruction="slow")
    working.start()
    assert gate.is_here.wait(10)
    working.bench.store.cancel("a", now=time.time())
    gate.is_open.set()
    wait_for(lambda: working.state("a") is JobState.CANCELLED)


def test_images_of_an_edit_that_was_cancelled_are_not_finished(works: Callable[..., Working], gate: Gate) -> None:
    finished: list[str] = []

    def finish(words: str, index: int) -> Picture:
        finished.append(words)
        return gate(words, index)

    def step(words: str, index: int) -> None:
        if (words, index) == ("second", 1):
            working.bench.store.cancel("b", now=time.time())
            time.sleep(0.06)  # the log is written this often

    working = works(Finishing(step=step, finish=finish))
    working.bench.submit("a", instruction="slow", num_images=FINISHERS)
    working.bench.submit("b", instruction="second", num_images=3)
    working.start()
    assert gate.is_here.wait(10)
    wait_for(lambda: working.job("b").cancel_requested)
    time.sleep(0.2)
    gate.is_open.set()
    wait_for(lambda: working.state("b") is JobState.CANCELLED)
    assert working.state("a") is JobState.COMPLETED
    assert finished == ["slow"] * FINISHERS


def test_images_of_an_edit_of_which_one_could_not_be_finished_are_left_out(
    works: Callable[..., Working], gate: Gate
) -> None:
    finished: list[str] = []

    def finish(words: str, index: int) -> Picture:
        finished.append(f"{words} {index}")
        if (words, index) == ("bad", 0):
            raise ValueError
        return gate("slow" if index < FINISHERS + 1 else words, index)

    working = works(Finishing(finish=finish))
    working.bench.submit("a", instruction="bad", num_images=FINISHERS + 2)
    working.start()
    wait_for(lambda: working.state("a") is JobState.FAILED)
    gate.is_open.set()
    working.end()
    assert sorted(finished) == [f"bad {index}" for index in range(FINISHERS + 1)]


def test_a_lease_outlasts_a_long_finish(works: Callable[..., Working]) -> None:
    def finish(_: str, __: int) -> Picture:
        time.sleep(1.0)
        return GRAY

    limits = RunnerLimits(lease_seconds=0.4, heartbeat_seconds=0.05, look_seconds=0.05)
    working = works(Finishing(finish=finish), limits)
    working.bench.submit()
    working.start()
    deadline = time.monotonic() + 10
    while working.state("a") is not JobState.COMPLETED and time.monotonic() < deadline:
        working.bench.store.rescue(now=time.time())
        time.sleep(0.02)
    assert (working.state("a"), working.job("a").attempt) == (JobState.COMPLETED, 1)


def test_whoever_lost_the_lease_while_finishing_writes_nothing(works: Callable[..., Working], gate: Gate) -> None:
    is_busy, may_go_on = threading.Event(), threading.Event()

    def step(words: str, _: int) -> None:
        if words == "second":  # so that this runner does not claim the first one again
            is_busy.set()
            may_go_on.wait(10)

    working = works(Finishing(step=step, finish=gate), RunnerLimits(lease_seconds=0.2, heartbeat_seconds=60))
    store = working.bench.store
    for name, words in (("a", "slow"), ("b", "second")):
        working.bench.submit(name, instruction=words)
    working.start()
    assert gate.is_here.wait(10)
    assert is_busy.wait(10)
    time.sleep(0.25)
    store.rescue(now=time.time())
    again = store.claim(runner_id="another", now=time.time(), lease_seconds=30)
    assert again is not None
    assert again.id == "a"
    gate.is_open.set()
    may_go_on.set()
    working.end()
    assert (working.state("a"), working.job("a").lease_token) == (JobState.RUNNING, again.lease_token)
    assert store.complete("a", str(again.lease_token), {"images": []}, now=time.time()).state is JobState.COMPLETED


@pytest.mark.parametrize("in_a_hurry", [False, True])
def test_a_runner_that_ends_finishes_what_had_its_last_step(
    works: Callable[..., Working], gate: Gate, in_a_hurry: bool
) -> None:
    is_busy, may_go_on = threading.Event(), threading.Event()

    def step(words: str, _: int) -> None:
        if words == "third":
            is_busy.set()
            may_go_on.wait(10)

    working = works(Finishing(step=step, finish=gate))
    for name, words in (("a", "slow"), ("b", "slow"), ("c", "third")):
        working.bench.submit(name, instruction=words)
    working.start()
    assert is_busy.wait(10)
    runner = working.bench.runner
    (runner.hurry if in_a_hurry else runner.drain)()
    may_go_on.set()
    gate.is_open.set()
    working.end()
    assert working.state("a") is working.state("b") is JobState.COMPLETED
    assert working.state("c") is (JobState.QUEUED if in_a_hurry else JobState.COMPLETED)
