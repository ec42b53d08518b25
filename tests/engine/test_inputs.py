"""Sources of any shape, fields left out and fields out of bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.conftest import linked, random_picture, short_edit
from tests.support.tiny_checkpoint import write_json

from hidream_edit.domain.edit import EditDefaults, EditInput, Fit
from hidream_edit.domain.errors import InputInvalid
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.state import EditState


def finished(engine: Engine, size: tuple[int, int], **fields: object) -> EditState:
    source = random_picture(*size, alpha=bool(fields.pop("alpha", False)))
    *_, state = engine.steps(engine.begin(source, engine.settle(short_edit(num_inference_steps=1, **fields))))
    return state


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (63, 65), (17, 40), (5, 60)], ids=str)
def test_the_result_has_the_size_of_the_source(size: tuple[int, int], fit: Fit, tiny_engine: Engine) -> None:
    assert finished(tiny_engine, size, fit=fit).pictures[0].size == size


@pytest.mark.parametrize("fit", [Fit.SQUEEZE, Fit.PAD])
@pytest.mark.parametrize("size", [(300, 2), (2, 300), (400, 90)], ids=str)
def test_extreme_shapes_come_back_whole(size: tuple[int, int], fit: Fit, tiny_engine: Engine) -> None:
    assert finished(tiny_engine, size, fit=fit).pictures[0].size == size


def test_alpha_comes_back_as_it_was(tiny_engine: Engine) -> None:
    state = finished(tiny_engine, (30, 20), alpha=True)
    assert state.pictures[0].alpha == state.source.alpha


def test_a_canvas_too_large_for_the_model_is_refused_before_any_work(tiny_engine: Engine) -> None:
    with pytest.raises(InputInvalid, match="takes up to 32") as refusal:
        finished(tiny_engine, (128, 128), fit=Fit.NATIVE)
    assert refusal.value.kind == "image_too_large"


def test_a_square_canvas_has_no_limit(tiny_engine: Engine) -> None:
    assert finished(tiny_engine, (96, 192), fit=Fit.NATIVE).pictures[0].size == (96, 192)


def test_a_native_size_is_floored_to_whole_patches(tiny_engine: Engine) -> None:
    state = finished(tiny_engine, (63, 47), fit=Fit.NATIVE)
    assert state.source_latents.shape[-2:] == (32 // 8, 48 // 8)


def test_a_blank_description_refines_towards_the_instruction(adapted_engine: Engine) -> None:
    blank = finished(adapted_engine, (64, 64), refine_strength=1.0)
    spelled = finished(adapted_engine, (64, 64), refine_strength=1.0, target_image_description="make it night")
    assert blank.pictures == spelled.pictures


def test_refinement_without_the_base_model_is_refused_not_ignored(tiny_engine: Engine) -> None:
    with pytest.raises(InputInvalid, match="base model"):
        tiny_engine.settle(short_edit(refine_strength=0.3))


def test_an_adapter_brings_the_published_refine_strength(adapted_engine: Engine, tiny_engine: Engine) -> None:
    assert adapted_engine.settle(short_edit()).refine_strength == 0.3
    assert tiny_engine.settle(short_edit()).refine_strength == 0.0


def test_fields_left_out_take_the_hosted_defaults(tiny_engine: Engine) -> None:
    settings = tiny_engine.settle(EditInput(edit_instruction="x"))
    assert (settings.num_inference_steps, settings.guidance_scale, settings.image_guidance_scale) == (50, 3.5, 2.0)
    assert settings.negative_prompt == "low resolution, blur"
    assert 0 <= settings.seed < 2**53


def test_a_model_folder_may_bring_its_own_defaults(tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path, without=())
    write_json(
        folder / "defaults.json", {"num_inference_steps": 4, "guidance_scale": 1.0, "fit": "pad", "working_size": 64}
    )
    engine = Engine.load(folder, device="cpu", dtype="float32")
    settings = engine.settle(EditInput(edit_instruction="x", guidance_scale=2.0))
    assert (settings.num_inference_steps, settings.guidance_scale, settings.fit) == (4, 2.0, Fit.PAD)


def test_a_prompt_that_was_cut_is_reported(
    tiny_engine: Engine,
) -> None:
    state = finished(tiny_engine, (16, 16), edit_instruction="many words " * 60)
    assert any("tail was cut off" in warning for warning in state.warnings)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_inference_steps", 0),
        ("num_inference_steps", 51),
        ("num_images", 0),
        ("num_images", 5),
        ("guidance_scale", -0.1),
        ("guidance_scale", 20.1),
        ("image_guidance_scale", float("nan")),
        ("image_guidance_scale", float("inf")),
        ("seed", -1),
        ("seed", 2**64),
        ("refine_strength", 1.5),
    ],
)
def test_a_field_out_of_bounds_is_named(field: str, value: float) -> None:
    with pytest.raises(InputInvalid, match=field) as refusal:
        EditInput(**{field: value}).settled(EditDefaults(), random_seed=lambda: 1)  # type: ignore[arg-type]
    assert refusal.value.field == field


def test_both_ends_of_the_bounds_are_allowed() -> None:
    low = EditInput(num_inference_steps=1, guidance_scale=0, image_guidance_scale=0, num_images=1, seed=0)
    high = EditInput(num_inference_steps=50, guidance_scale=20, image_guidance_scale=20, num_images=4, seed=2**64 - 1)
    for edit_input in (low, high):
        assert edit_input.settled(EditDefaults(), random_seed=lambda: 1).seed == edit_input.seed
