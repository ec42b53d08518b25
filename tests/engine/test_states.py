"""An edit is a value: dropped, previewed, saved, continued, and the same in every run."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import random_picture, short_edit

from hidream_edit.domain.errors import StateInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.state import EditState


def finished(engine: Engine, source: Picture, **fields: object) -> EditState:
    *_, state = engine.steps(engine.begin(source, engine.settle(short_edit(**fields))))
    return state


def test_the_same_request_gives_the_same_bytes(tiny_engine: Engine, picture: Picture) -> None:
    assert finished(tiny_engine, picture).pictures == finished(tiny_engine, picture).pictures


def test_another_seed_gives_another_picture(tiny_engine: Engine, picture: Picture) -> None:
    assert finished(tiny_engine, picture, seed=1).pictures != finished(tiny_engine, picture, seed=2).pictures


def test_image_k_equals_the_single_image_of_seed_plus_k(tiny_engine: Engine, picture: Picture) -> None:
    several = finished(tiny_engine, picture, num_images=3, seed=10).pictures
    singles = tuple(finished(tiny_engine, picture, seed=10 + k).pictures[0] for k in range(3))
    assert several == singles


def test_seeds_wrap_around_at_64_bits(tiny_engine: Engine, picture: Picture) -> None:
    last = finished(tiny_engine, picture, num_images=2, seed=2**64 - 1).pictures[1]
    assert last == finished(tiny_engine, picture, seed=0).pictures[0]


def test_edits_that_take_turns_do_not_disturb_each_other(tiny_engine: Engine, picture: Picture) -> None:
    other = random_picture(64, 64, seed=5)
    first = tiny_engine.begin(picture, tiny_engine.settle(short_edit()))
    second = tiny_engine.begin(other, tiny_engine.settle(short_edit(edit_instruction="blur", guidance_scale=1.0)))
    while not (first.is_done and second.is_done):
        first = first if first.is_done else tiny_engine.advance(first)
        second = second if second.is_done else tiny_engine.advance(second)
    assert tiny_engine.finish(first).pictures == finished(tiny_engine, picture).pictures


def test_a_refined_edit_leaves_nothing_behind_for_the_next(adapted_engine: Engine, picture: Picture) -> None:
    before = finished(adapted_engine, picture, refine_strength=0.0).pictures
    finished(adapted_engine, picture, refine_strength=0.5)
    assert finished(adapted_engine, picture, refine_strength=0.0).pictures == before


def test_both_stages_share_the_weights_that_the_adapter_leaves_alone(adapted_engine: Engine) -> None:
    loaded = adapted_engine._loaded
    assert loaded.refine_transformer is not None
    edit, refine = loaded.edit_transformer.state_dict(), loaded.refine_transformer.state_dict()
    shared = {name for name in edit if edit[name].data_ptr() == refine[name].data_ptr()}
    assert any("adaLN" in name for name in shared)
    assert any("caption_projection" in name for name in shared)
    assert not any("to_q.weight" in name for name in shared)


def test_a_dropped_edit_costs_nothing_later(tiny_engine: Engine, picture: Picture) -> None:
    steps = tiny_engine.steps(tiny_engine.begin(picture, tiny_engine.settle(short_edit())))
    next(steps)
    steps.close()
    assert finished(tiny_engine, picture).is_done


@pytest.mark.parametrize("at_step", [0, 1, 2, 3, 4])  # after the third, an image is decoded and no picture yet
def test_a_saved_edit_goes_on_to_the_same_bytes(at_step: int, tiny_engine: Engine) -> None:
    source = random_picture(50, 40, alpha=True)
    state = tiny_engine.begin(source, tiny_engine.settle(short_edit(num_images=2, num_inference_steps=3)))
    for _ in range(at_step):
        state = tiny_engine.advance(state)
    *_, resumed = tiny_engine.steps(EditState.from_bytes(state.to_bytes()))
    assert resumed.pictures == finished(tiny_engine, source, num_images=2, num_inference_steps=3).pictures


def test_an_image_that_had_its_last_step_is_a_picture_when_it_is_finished(tiny_engine: Engine) -> None:
    source = random_picture(50, 40, alpha=True)
    state = tiny_engine.begin(source, tiny_engine.settle(short_edit(num_images=2)))
    while not state.is_done:
        state = tiny_engine.advance(state)
    assert (state.pictures, len(state.canvases)) == ((), 2)
    wanted = finished(tiny_engine, source, num_images=2).pictures
    assert [tiny_engine.picture(state, index) for index in (1, 0)] == [wanted[1], wanted[0]]
    done = tiny_engine.finish(state)
    assert (done.pictures, done.canvases, done.is_done) == (wanted, (), True)
    assert tiny_engine.finish(done).pictures == wanted
    assert tiny_engine.picture(done, 1) == wanted[1]


@pytest.mark.parametrize("detail", [False, True])
def test_an_edit_that_was_saved_before_its_last_picture_was_finished_has_it_later(
    detail: bool, tiny_engine: Engine
) -> None:
    source = random_picture(90, 70)
    state = tiny_engine.begin(source, tiny_engine.settle(short_edit(detail=detail)))
    while not state.is_done:
        state = tiny_engine.advance(state)
    restored = EditState.from_bytes(state.to_bytes())
    assert restored.is_done
    assert tiny_engine.finish(restored).pictures == finished(tiny_engine, source, detail=detail).pictures


def test_a_picture_is_finished_beside_another_edit_to_the_same_bytes(tiny_engine: Engine) -> None:
    source, other = random_picture(1300, 900, seed=1), random_picture(64, 64, seed=2)
    wanted = [finished(tiny_engine, one, detail=True).pictures[0] for one in (source, other)]
    state = tiny_engine.begin(source, tiny_engine.settle(short_edit(detail=True)))
    while not state.is_done:
        state = tiny_engine.advance(state)
    with ThreadPoolExecutor(1) as beside:
        finishing = beside.submit(tiny_engine.picture, state, 0)
        while not finishing.done():
            assert finished(tiny_engine, other, detail=True).pictures == (wanted[1],)
        assert finishing.result() == wanted[0]


def test_another_process_continues_to_the_same_bytes(
    tiny_engine: Engine, tiny_folder: Path, picture: Picture, tmp_path: Path
) -> None:
    state = tiny_engine.advance(tiny_engine.begin(picture, tiny_engine.settle(short_edit(num_inference_steps=3))))
    (tmp_path / "state").write_bytes(state.to_bytes())
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from hidream_edit.engine.engine import Engine\n"
        "from hidream_edit.engine.state import EditState\n"
        "folder, file = map(Path, sys.argv[1:])\n"
        "engine = Engine.load(folder, device='cpu', dtype='float32')\n"
        "*_, state = engine.steps(EditState.from_bytes(file.read_bytes()))\n"
        "sys.stdout.buffer.write(state.pictures[0].rgb)\n"
    )
    arguments = [sys.executable, "-c", script, str(tiny_folder), str(tmp_path / "state")]
    result = subprocess.run(arguments, capture_output=True, check=True)
    assert result.stdout == finished(tiny_engine, picture, num_inference_steps=3).pictures[0].rgb


def test_a_state_counts_its_steps(tiny_engine: Engine, picture: Picture) -> None:
    state = tiny_engine.begin(picture, tiny_engine.settle(short_edit(num_images=2)))
    counted = [(after.image_index, after.step, after.steps_done_total) for after in tiny_engine.steps(state)]
    assert counted == [(0, 1, 1), (0, 2, 2), (1, 1, 3), (1, 2, 4)]
    assert state.steps_total == 4


def test_the_last_preview_is_the_picture_in_small(tiny_engine: Engine, picture: Picture) -> None:
    state = finished(tiny_engine, picture)
    preview = tiny_engine.preview(state, side_max=64)
    apart = torch.frombuffer(bytearray(preview.rgb), dtype=torch.uint8).int() - torch.frombuffer(
        bytearray(state.pictures[0].rgb), dtype=torch.uint8
    )
    assert apart.abs().max() <= 1


@pytest.mark.parametrize(("size", "expected"), [((640, 320), (32, 16)), ((320, 640), (16, 32)), ((10, 1000), (1, 32))])
def test_a_preview_keeps_the_shape_of_the_source(
    size: tuple[int, int], expected: tuple[int, int], tiny_engine: Engine
) -> None:
    state = tiny_engine.begin(random_picture(*size), tiny_engine.settle(short_edit()))
    assert tiny_engine.preview(state, side_max=32).size == expected


def test_an_edit_that_is_done_does_not_go_on(tiny_engine: Engine, picture: Picture) -> None:
    with pytest.raises(StateInvalid, match="done"):
        tiny_engine.advance(finished(tiny_engine, picture))


def test_other_weights_refuse_to_continue(tiny_engine: Engine, other_transformer: Path, picture: Picture) -> None:
    state = tiny_engine.begin(picture, tiny_engine.settle(short_edit()))
    other = Engine.load(other_transformer, device="cpu", dtype="float32")
    with pytest.raises(StateInvalid, match="began with"):
        other.advance(state)


def test_another_precision_refuses_to_continue(tiny_engine: Engine, tiny_folder: Path, picture: Picture) -> None:
    state = tiny_engine.begin(picture, tiny_engine.settle(short_edit()))
    with pytest.raises(StateInvalid, match="bfloat16"):
        Engine.load(tiny_folder, device="cpu", dtype="bfloat16").advance(state)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x10" + bytes(7) + b"not a json header"])
def test_other_bytes_are_no_state(data: bytes) -> None:
    with pytest.raises(StateInvalid):
        EditState.from_bytes(data)


def test_a_state_of_another_version_is_refused(tiny_engine: Engine, picture: Picture) -> None:
    data = tiny_engine.begin(picture, tiny_engine.settle(short_edit())).to_bytes()
    with pytest.raises(StateInvalid, match="format"):
        EditState.from_bytes(data.replace(b"hidream-edit state 1", b"hidream-edit state 9"))


def test_a_cut_state_is_refused(tiny_engine: Engine, picture: Picture) -> None:
    data = tiny_engine.begin(picture, tiny_engine.settle(short_edit())).to_bytes()
    with pytest.raises(StateInvalid):
        EditState.from_bytes(data[: len(data) // 2])


def test_settings_survive_saving(tiny_engine: Engine, picture: Picture) -> None:
    state = tiny_engine.begin(picture, tiny_engine.settle(short_edit(fit="pad", seed=2**64 - 1)))
    again = EditState.from_bytes(state.to_bytes())
    assert again.settings == state.settings
    assert replace(again, source_latents=state.source_latents, solver=state.solver) == state


def test_the_same_picture_is_encoded_once(tiny_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.load(tiny_folder, device="cpu", dtype="float32")
    encoded: list[Picture] = []
    encode = Engine._encoded

    def counted(self: Engine, canvas: torch.Tensor) -> torch.Tensor:
        encoded.append(picture)
        return encode(self, canvas)

    monkeypatch.setattr(Engine, "_encoded", counted)
    first = engine.begin(picture, engine.settle(short_edit()))
    again = engine.begin(picture, engine.settle(short_edit(edit_instruction="another", seed=9)))
    assert torch.equal(first.source_latents, again.source_latents)
    assert len(encoded) == 1
    engine.begin(random_picture(64, 64, seed=8), engine.settle(short_edit()))
    assert len(encoded) == 2
