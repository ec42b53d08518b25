"""The engine as a runner drives it: the same pictures, finished by another thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import ImageMade, StepDone
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.state import EditState
from hidream_edit.wiring.runner import EngineOfRunner

SOURCE = Picture(40, 30, bytes(range(240)) * 15)
WANTED = EditInput(edit_instruction="make it night", num_inference_steps=2, num_images=2, seed=3, detail=True)


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Iterator[Engine]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine.load(tiny_folder, device="cpu", dtype="float32")
    torch.set_num_threads(before)


def test_pictures_that_another_thread_finishes_are_those_of_the_engine_alone(engine: Engine) -> None:
    *_, alone = engine.steps(engine.begin(SOURCE, engine.settle(WANTED)))
    with ThreadPoolExecutor(1) as beside:
        made = [
            beside.submit(progress.finish)
            for progress in EngineOfRunner(engine).edit(SOURCE, WANTED)
            if isinstance(progress, ImageMade)
        ]
    assert tuple(one.result() for one in made) == alone.pictures


def test_an_image_is_told_right_after_its_last_step(engine: Engine) -> None:
    told = [type(progress) for progress in EngineOfRunner(engine).edit(SOURCE, WANTED)]
    assert told[1:-1] == [StepDone, StepDone, ImageMade, StepDone, StepDone, ImageMade]


def test_the_device_makes_no_picture_of_the_sources_size(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    picture = engine.picture

    def noted(state: EditState, index: int) -> Picture:
        made.append(index)
        return picture(state, index)

    monkeypatch.setattr(engine, "picture", noted)
    finishes = [
        progress.finish for progress in EngineOfRunner(engine).edit(SOURCE, WANTED) if isinstance(progress, ImageMade)
    ]
    assert made == []
    for finish in reversed(finishes):
        finish()
    assert made == [1, 0]
