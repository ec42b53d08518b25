"""Previews: beside the steps, in their order, and never a reason for an edit to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.runner.bench import Bench, data_uri, wait_for

from hidream_edit.domain.blobs import BlobFacts
from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import Progress, StepDone
from hidream_edit.domain.errors import BlobsUnavailable, StoreUnavailable
from hidream_edit.domain.job import Event, JobState
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.decode import decode
from hidream_edit.runner import previews
from hidream_edit.testing import NullEngine


class Stepwise(NullEngine):
    """Calls ``between`` after each step; its previews are red."""

    def __init__(self, between: Callable[[int], object]) -> None:
        super().__init__()
        self._between = between

    def edit(self, source: Picture, edit_input: EditInput) -> Iterator[Progress]:
        for progress in super().edit(source, edit_input):
            if not isinstance(progress, StepDone):
                yield progress
                continue
            yield StepDone(progress.steps_done, progress.steps_total, self.preview)
            self._between(progress.steps_done)

    def preview(self) -> Picture:
        return Picture(1, 1, bytes((255, 0, 0)))


@pytest.fixture
def opened() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        for beside in bench.runner._besides:
            beside.close()
        bench.store.close()


@pytest.fixture
def bench(tmp_path: Path, opened: list[Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Each step but the last is offered, and the next begins when its preview was told."""
    monkeypatch.setattr(previews, "SECONDS_BETWEEN", 0.0)

    def told(step: int) -> None:
        if step < 3 and made.store.get("a").wants_previews:
            wait_for(lambda: len(shown(made)) == step)

    made = Bench(tmp_path, Stepwise(told))
    opened.append(made)
    return made


def shown(bench: Bench, name: str = "a") -> list[Event]:
    return [event for event in bench.store.events(name) if "preview" in event.facts]


def test_each_preview_is_told_after_its_step_and_kept_for_a_while(bench: Bench) -> None:
    bench.submit(wants_previews=True)
    assert bench.work().state is JobState.COMPLETED
    said = [event.message for event in bench.store.events("a") if "step" in event.message]
    assert said == ["step 1 of 3", "preview of step 1", "step 2 of 3", "preview of step 2", "step 3 of 3"]
    facts = bench.blobs.facts(shown(bench)[0].facts["preview"], now=time.time())
    assert facts.content_type == "image/jpeg"
    assert facts.expires_at is not None
    assert facts.expires_at < time.time() + previews.KEEP_SECONDS + 1


def test_where_nobody_wants_previews_none_are_made(bench: Bench) -> None:
    bench.submit()
    assert bench.work().state is JobState.COMPLETED
    assert shown(bench) == []


def test_no_step_and_no_end_waits_for_a_preview_and_a_late_one_is_not_told(
    tmp_path: Path, opened: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_stored, disk_is_free, done = threading.Event(), threading.Event(), threading.Event()
    bench = Bench(tmp_path, Stepwise(lambda step: is_stored.wait(10) if step == 1 else None))
    opened.append(bench)
    put = bench.blobs.put

    def slow(pieces: Any, content_type: str, **fields: Any) -> BlobFacts:
        if fields["keep_seconds"] != previews.KEEP_SECONDS:
            return put(pieces, content_type, **fields)
        is_stored.set()
        assert disk_is_free.wait(10)
        try:
            return put(pieces, content_type, **fields)
        finally:
            done.set()

    monkeypatch.setattr(bench.blobs, "put", slow)
    bench.submit(wants_previews=True)
    assert bench.work().state is JobState.COMPLETED  # while the disk is busy with the preview
    told = bench.store.events("a")
    disk_is_free.set()
    assert done.wait(10)
    bench.runner._tools.previews.beside.close()
    assert bench.store.events("a") == told
    assert shown(bench) == []


class Redness:
    name = "redness"

    def flagged(self, pictures: Sequence[Picture]) -> list[bool]:
        return [picture.rgb[0] > picture.rgb[2] for picture in pictures]


def test_a_flagged_preview_is_black_before_anybody_sees_it(
    tmp_path: Path, opened: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "SECONDS_BETWEEN", 0.0)
    made = Bench(tmp_path, Stepwise(lambda step: wait_for(lambda: len(shown(made)) == min(step, 2))), Redness())
    opened.append(made)
    made.submit(url=data_uri((0, 0, 200)), wants_previews=True)
    made.work()
    seen = [b"".join(made.blobs.read(event.facts["preview"], now=time.time())) for event in shown(made)]
    assert [decode(data).rgb for data in seen] == [bytes(3)] * 2


@pytest.mark.parametrize("trouble", [BlobsUnavailable("away"), StoreUnavailable("away"), OSError("no space")])
def test_a_preview_that_cannot_be_stored_is_left_out(
    tmp_path: Path, opened: list[Bench], monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    has_failed = threading.Event()
    bench = Bench(tmp_path, Stepwise(lambda _: has_failed.wait(10)))
    opened.append(bench)
    put = bench.blobs.put

    def no_previews(pieces: Any, content_type: str, **fields: Any) -> BlobFacts:
        if fields["keep_seconds"] == previews.KEEP_SECONDS:
            has_failed.set()
            raise trouble
        return put(pieces, content_type, **fields)

    monkeypatch.setattr(bench.blobs, "put", no_previews)
    bench.submit(wants_previews=True)
    assert bench.work().state is JobState.COMPLETED
    assert has_failed.is_set()
    assert shown(bench) == []


def test_an_engine_that_cannot_make_a_preview_goes_on_with_its_edit(
    tmp_path: Path, opened: list[Bench], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Stepwise) -> Picture:
        raise RuntimeError("no")

    monkeypatch.setattr(Stepwise, "preview", broken)
    bench = Bench(tmp_path, Stepwise(lambda _: None))
    opened.append(bench)
    bench.submit(wants_previews=True)
    assert bench.work().state is JobState.COMPLETED
    assert "a preview failed" in caplog.text
