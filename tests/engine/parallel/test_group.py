"""Real processes that do one edit together, over gloo on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import random_picture, relative_difference, short_edit
from tests.engine.parallel.conftest import lives, ranks_of, run

from hidream_edit.domain.edit import Fit
from hidream_edit.domain.errors import DeviceUnavailable, GroupLost
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine

TOLERANCE = 1e-4  # of the recorded runs (model.md 15); what is found here is about 1e-6
EDITS = [
    pytest.param((64, 64), {}, id="three branches"),
    pytest.param((64, 64), {"guidance_scale": 1.0}, id="one branch"),
    pytest.param((64, 64), {"refine_strength": 0.5, "num_inference_steps": 4}, id="two branches in the refine stage"),
    pytest.param((48, 32), {"fit": Fit.NATIVE}, id="a canvas with pads"),
    pytest.param((32, 48), {"fit": Fit.NATIVE, "guidance_scale": 1.0}, id="a portrait with pads, one branch"),
    pytest.param((16, 16), {"fit": Fit.NATIVE}, id="fewer tokens than ranks"),
]


@pytest.fixture(scope="module")
def alone(four_heads: Path, tiny_adapter: Path) -> Engine:
    return Engine.load(four_heads, adapter=tiny_adapter, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=[2, 3, 4], ids=lambda count: f"{count} ranks")
def together(request: pytest.FixtureRequest, four_heads: Path, tiny_adapter: Path) -> Iterator[Engine]:
    engine = Engine.load(four_heads, adapter=tiny_adapter, devices=["cpu"] * request.param, dtype="float32")
    yield engine
    processes = ranks_of(engine)
    engine.close()
    assert not any(map(lives, processes))
    with pytest.raises(GroupLost, match="closed"):
        run(engine, random_picture(64, 64))


@pytest.mark.parametrize(("size", "fields"), EDITS)
def test_devices_together_make_the_picture_of_one(
    together: Engine, alone: Engine, size: tuple[int, int], fields: dict[str, object]
) -> None:
    source = random_picture(*size)
    assert relative_difference(run(together, source, **fields), run(alone, source, **fields)) <= TOLERANCE


def test_an_edit_is_the_same_again_and_says_where_it_was_made(together: Engine, picture: Picture) -> None:
    assert torch.equal(run(together, picture), run(together, picture))
    assert set(together.device.split(", ")) == {"cpu"}


def test_an_edit_that_is_dropped_leaves_nobody_waiting(together: Engine, alone: Engine, picture: Picture) -> None:
    steps = together.steps(together.begin(picture, together.settle(short_edit(num_inference_steps=4))))
    next(steps)
    del steps
    assert relative_difference(run(together, picture), run(alone, picture)) <= TOLERANCE


def test_more_stages_than_are_kept_are_told_again(together: Engine, alone: Engine, picture: Picture) -> None:
    for scale in (1.0, 2.0, 3.0, 1.0):
        fields = {"guidance_scale": scale, "edit_instruction": f"version {scale}", "num_inference_steps": 1}
        assert relative_difference(run(together, picture, **fields), run(alone, picture, **fields)) <= TOLERANCE


def test_a_process_works_with_one_group_at_a_time(together: Engine, four_heads: Path) -> None:
    assert together.device
    with pytest.raises(DeviceUnavailable, match="already works with several"):
        Engine.load(four_heads, devices=["cpu", "cpu"])
