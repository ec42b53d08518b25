"""The model in the package: a short form of its gate, and the promises that do not need numbers of quality."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng
from training.edits import FAMILIES, GROUPS
from training.evaluation import Editor, evaluate, held_out_pictures, psnr
from training.wordings import outside

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.known_models import BUNDLED, bundled_edits

SIZE_MAX = 24_000_000
HOSTED = {"num_inference_steps": 50, "guidance_scale": 3.5, "image_guidance_scale": 2.0}
CHECKED = ("grayscale", "invert", "night", "snow", "pencil_sketch", "animated_3d", "vignette", "warm")


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(BUNDLED)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:  # type: ignore[type-arg]
    return held_out_pictures(256)


def as_picture(pixels: np.ndarray) -> Picture:  # type: ignore[type-arg]
    data = (pixels * 255 + 0.5).astype(np.uint8)
    return Picture(data.shape[1], data.shape[0], data.tobytes())


def test_it_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < SIZE_MAX


def test_it_lists_the_edits_that_pass_and_an_example_of_each_is_recognised(editor: Editor) -> None:
    known = bundled_edits()
    assert len(known) >= 36
    for family, examples in known.items():
        for words in examples:
            settings = editor.engine.settle(EditInput(edit_instruction=words, seed=1))
            state = editor.engine.begin(Picture(8, 8, bytes(192)), settings)
            assert not any("not recognised" in warning for warning in state.warnings), (family, words)


@pytest.mark.parametrize("family", CHECKED)
def test_a_family_passes_its_gate_on_two_held_out_pictures(editor: Editor, family: str) -> None:
    (row,) = evaluate(editor, size=256, pictures_max=2, families=(family,))
    assert row["ours"] > row["copy"] + 4
    assert row["unseen"] > row["copy"] + 4


def test_an_instruction_from_outside_gives_the_source_back_and_says_so(editor: Editor, pictures: list) -> None:  # type: ignore[type-arg]
    rng = default_rng(1)
    source = pictures[0]
    for words in ("give him a moustache", "turn the car into a boat", outside(rng), outside(rng)):
        settings = editor.engine.settle(EditInput(edit_instruction=words, seed=1))
        state = editor.engine.begin(as_picture(source), settings)
        assert any("not recognised" in warning for warning in state.warnings), words
        *_, state = editor.engine.steps(state)
        result = np.frombuffer(state.pictures[0].rgb, np.uint8).reshape(source.shape) / 255
        assert psnr(result.astype(np.float32), source) > 35, words


def test_traces_of_edits_in_unknown_words_do_not_reach_the_picture(editor: Editor, pictures: list) -> None:  # type: ignore[type-arg]
    results = [editor(pictures[3], words) for words in ("make the bread pink", "give him a moustache")]
    assert np.array_equal(*results)
    assert psnr(results[0], pictures[3]) > 35


def test_any_number_of_steps_leads_to_nearly_the_same_picture(editor: Editor, pictures: list) -> None:  # type: ignore[type-arg]
    results = [Editor.__call__(_with(editor, num_inference_steps=n), pictures[3], "make it night") for n in (1, 4, 12)]
    assert psnr(results[0], results[1]) > 32
    assert psnr(results[1], results[2]) > 35


@pytest.mark.parametrize("scale", [2.0, 3.5, 6.0, 10.0])
def test_guidance_alone_brings_the_steps_that_it_needs(editor: Editor, pictures: list, scale: float) -> None:  # type: ignore[type-arg]
    words = "make it look like autumn"
    guided = Editor.__call__(_with(editor, guidance_scale=scale, image_guidance_scale=2.0), pictures[3], words)
    assert psnr(editor(pictures[3], words), guided) > 28


def test_too_few_steps_for_a_guidance_scale_are_taken_and_told(editor: Editor) -> None:
    def warnings(**fields: float) -> tuple[str, ...]:
        settings = editor.engine.settle(EditInput(edit_instruction="make it night", seed=1, **fields))  # type: ignore[arg-type]
        return editor.engine.begin(Picture(8, 8, bytes(192)), settings).warnings

    assert any("wants 14 steps" in warning for warning in warnings(guidance_scale=3.5, num_inference_steps=4))
    assert warnings(guidance_scale=3.5, num_inference_steps=50) == warnings(guidance_scale=3.5) == warnings() == ()


def test_the_hosted_pages_settings_give_nearly_the_same_picture(editor: Editor, pictures: list) -> None:  # type: ignore[type-arg]
    words = "Convert the image into a 3D animated style."
    ours = editor(pictures[0], words)
    theirs = Editor.__call__(_with(editor, **HOSTED), pictures[0], words)
    assert psnr(ours, theirs) > 25


def test_two_runs_give_the_same_bytes_and_bfloat16_nearly_the_same_picture(pictures: list) -> None:  # type: ignore[type-arg]
    results = {}
    for dtype in ("float32", "float32", "bfloat16"):
        engine = Engine.load(device="cpu", dtype=dtype)
        settings = engine.settle(EditInput(edit_instruction="make it snowy", seed=1))
        *_, state = engine.steps(engine.begin(as_picture(pictures[0]), settings))
        result = np.frombuffer(state.pictures[0].rgb, np.uint8) / 255
        if dtype in results:
            assert np.array_equal(results[dtype], result)
        results[dtype] = result
    assert psnr(results["float32"], results["bfloat16"]) > 30


def test_its_defaults_are_its_own() -> None:
    defaults = Engine.load(device="cpu").model.defaults
    assert defaults.num_inference_steps < 10
    assert defaults.guidance_scale == 1
    assert defaults.detail


def test_every_family_is_either_listed_or_known_to_fail() -> None:
    assert set(bundled_edits()) <= set(FAMILIES)
    assert {family for group in GROUPS.values() for family in group} == set(FAMILIES)


def _with(editor: Editor, **fields: object) -> Editor:
    """The same engine with other fields."""
    other = object.__new__(Editor)
    other.__dict__.update(editor.__dict__, fields=fields)
    return other
