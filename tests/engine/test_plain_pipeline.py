"""The engine against the same computation written plainly on the library's own parts, on a random model.

This is what proves the engine where the recorded runs are not at hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.plain_pipeline import PlainEdit, PlainPipeline
from PIL import Image
from tests.engine.conftest import random_picture, relative_difference, short_edit

from hidream_edit.domain.edit import Fit
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.state import EditState

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
INSTRUCTION = "make it night"


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> PlainPipeline:
    return PlainPipeline(tiny_folder)


@pytest.fixture(scope="module")
def plain_adapted(tiny_folder: Path, tiny_adapter: Path) -> PlainPipeline:
    return PlainPipeline(tiny_folder, adapter=tiny_adapter)


def run(engine: Engine, source: Picture, **fields: object) -> EditState:
    *_, state = engine.steps(engine.begin(source, engine.settle(short_edit(**fields))))
    return state


def run_plain(pipeline: PlainPipeline, source: Picture, state: EditState) -> PlainEdit:
    settings = state.settings
    return pipeline.edit(
        Image.frombytes("RGB", source.size, source.rgb),
        prompt=state.prompt,
        negative=settings.negative_prompt,
        steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        image_guidance_scale=settings.image_guidance_scale,
        normed=settings.normed_guidance,
        seed=settings.seed,
        refine_strength=settings.refine_strength,
        target=settings.target_image_description.strip() or settings.edit_instruction,
    )


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"num_inference_steps": 1}, id="one step"),
        pytest.param({"num_inference_steps": 7}, id="seven steps"),
        pytest.param({"guidance_scale": 1.0}, id="no guidance"),
        pytest.param({"guidance_scale": 0.0}, id="guidance zero is like one"),
        pytest.param({"image_guidance_scale": 1.0}, id="image guidance one"),
        pytest.param({"image_guidance_scale": 3.5}, id="both scales equal"),
        pytest.param({"normed_guidance": False}, id="plain guidance"),
        pytest.param({"target_image_description": "A dark street."}, id="with a description"),
        pytest.param({"edit_instruction": None}, id="no instruction"),
        pytest.param({"negative_prompt": ""}, id="empty negative prompt"),
        pytest.param({"edit_instruction": "very " * 150 + "long"}, id="longer than the encoders read"),
        pytest.param({"edit_instruction": "mach es Nacht, 夜にして 🌙"}, id="any language"),
    ],
)
def test_the_engine_computes_what_the_plain_pipeline_does(
    fields: dict[str, object], tiny_engine: Engine, plain: PlainPipeline, picture: Picture
) -> None:
    state = run(tiny_engine, picture, **fields)
    expected = run_plain(plain, picture, state)
    assert relative_difference(state.solver.latents, expected.latents) <= 1e-5


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (32, 64), (64, 32), (16, 16)], ids=str)
def test_every_canvas_matches_padded_or_square(
    size: tuple[int, int], tiny_engine: Engine, plain: PlainPipeline
) -> None:
    source = random_picture(*size, seed=sum(size))
    state = run(tiny_engine, source, fit=Fit.NATIVE)
    assert relative_difference(state.solver.latents, run_plain(plain, source, state).latents) <= 1e-5


@pytest.mark.parametrize("refine_strength", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("whose", ["e1", "i1"])
def test_the_refine_stage_matches_with_an_unmerged_adapter(
    whose: str, refine_strength: float, tiny_folder: Path, tiny_adapter: Path, picture: Picture
) -> None:
    plain = PlainPipeline(tiny_folder, adapter=tiny_adapter, tail_patch_embedder=whose)
    engine = Engine.load(
        tiny_folder,
        adapter=tiny_adapter,
        device="cpu",
        dtype="float32",
        refine_patch_embedder=whose,  # type: ignore[arg-type]
    )
    state = run(engine, picture, num_inference_steps=4, refine_strength=refine_strength)
    assert relative_difference(state.solver.latents, run_plain(plain, picture, state).latents) <= 1e-5


def test_the_euler_sampler_matches(euler_folder: Path, picture: Picture) -> None:
    engine = Engine.load(euler_folder, device="cpu", dtype="float32")
    state = run(engine, picture, num_inference_steps=5)
    assert (
        relative_difference(state.solver.latents, run_plain(PlainPipeline(euler_folder), picture, state).latents)
        <= 1e-5
    )


def test_a_merged_adapter_equals_an_unmerged_one(
    adapted_engine: Engine, plain_adapted: PlainPipeline, picture: Picture
) -> None:
    state = run(adapted_engine, picture, refine_strength=0.0)
    assert relative_difference(state.solver.latents, run_plain(plain_adapted, picture, state).latents) <= 1e-5


def test_bfloat16_strays_no_further_than_the_plain_pipeline(
    tiny_folder: Path, tiny_engine: Engine, picture: Picture
) -> None:
    exact = run(tiny_engine, picture, num_inference_steps=4)
    noise_matters = exact.solver.latents
    plain_state = run_plain(PlainPipeline(tiny_folder, dtype=torch.bfloat16), picture, exact)
    engine = Engine.load(tiny_folder, device="cpu", dtype="bfloat16")
    ours = relative_difference(run(engine, picture, num_inference_steps=4).solver.latents, noise_matters)
    assert ours <= 1.5 * relative_difference(plain_state.latents, noise_matters)
