"""The recorded runs of the published pipeline, where they are at hand; tolerances of their README.

Where they are not, `test_plain_pipeline` compares with the same computation done by other code.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.engine.conftest import GOLDEN, GoldenCase, golden_cases, relative_difference

from hidream_edit.domain.picture import Picture
from hidream_edit.engine.guidance import Velocities, guide
from hidream_edit.engine.latents import Autoencoder, draw_noise
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.rotation import canvas_rotation, rotate, rotate_own
from hidream_edit.engine.model.transformer import ForwardInputs, Transformer
from hidream_edit.engine.sampler import SolverState, advance
from hidream_edit.engine.schedule import make_schedule, refine_start, resolution_shift

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded runs are not beside this checkout")
CASES = pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)


@CASES
def test_a_recorded_edit_comes_out_the_same(case: GoldenCase, tmp_path: Path) -> None:
    engine = case.engine(tmp_path / "model")
    expected = case.tensors("outputs")
    state = engine.begin(case.source(), engine.settle(case.edit_input()))
    assert state.prompt == case.settings["prompt"]
    assert torch.equal(state.solver.latents, case.tensors("inputs")["init_noise"])
    assert (state.source_latents - expected["image_latents"]).abs().max() <= 2e-4

    for step, after in enumerate(engine.steps(state)):
        state = after
        recorded = expected.get(f"latents_after_step_{step}")
        if recorded is not None:
            assert relative_difference(state.solver.latents, recorded) <= 1e-4
    assert relative_difference(state.solver.latents, expected["final_latents"]) <= 1e-4
    assert _levels_apart(state.pictures[0], case.folder / "output_0.png") <= 1


@CASES
def test_the_tokens_and_embeddings_are_the_recorded_ones(case: GoldenCase, tmp_path: Path) -> None:
    encoders = case.engine(tmp_path / "model")._loaded.text_encoders
    inputs, embeddings = case.tensors("inputs"), load_file(_embeddings_of(case))
    texts = {"prompt": case.settings["prompt"], "negative": case.settings["negative_prompt"] or ""}
    for which, text in texts.items():
        if f"{which}_t5" not in embeddings:
            continue  # without guidance the negative prompt is never encoded
        tokens = encoders.tokenizers(text)
        for name, ids in (
            ("clip_l", tokens.clip_l),
            ("clip_g", tokens.clip_g),
            ("t5", tokens.t5),
            ("llama", tokens.llama),
        ):
            assert torch.equal(ids, inputs[f"tokens.{which}_{name}_ids"]), name
        assert torch.equal(tokens.t5_mask, inputs[f"tokens.{which}_t5_mask"])
        assert torch.equal(tokens.llama_mask, inputs[f"tokens.{which}_llama_mask"])
        ours, _ = encoders.encode(text)
        for name in ("t5", "llama", "pooled"):
            assert (getattr(ours, name) - embeddings[f"{which}_{name}"]).abs().max() <= 2e-4, name


@CASES
def test_bfloat16_strays_no_further_than_the_published_pipeline(case: GoldenCase, tmp_path: Path) -> None:
    engine = case.engine(tmp_path / "model", dtype="bfloat16")
    *_, state = engine.steps(engine.begin(case.source(), engine.settle(case.edit_input())))
    allowed = 1.5 * case.settings["checks"]["bfloat16_rel_l2_latents"]
    assert relative_difference(state.solver.latents, case.tensors("outputs")["final_latents"]) <= allowed


@pytest.mark.parametrize("canvas", ["full", "padded", "square"])
def test_the_transformer_matches_on_every_kind_of_canvas(canvas: str) -> None:
    unit = _unit("transformer")
    model = _transformer()
    with torch.inference_mode():
        text = model.project_text(unit[f"{canvas}.t5"], unit[f"{canvas}.llama"])
        latents, timesteps, pooled = (unit[f"{canvas}.{name}"] for name in ("hidden_states", "timesteps", "pooled"))
        output = model(ForwardInputs(latents, timesteps, text, pooled))
    assert (output - unit[f"{canvas}.output"]).abs().max() <= 1e-4


def test_every_schedule_matches() -> None:
    recorded = json.loads((GOLDEN / "unit" / "schedules.json").read_text())
    for name, table in recorded.items():
        if "_shift3_" not in name:
            continue
        sampler, steps = name.split("_shift3_")
        schedule = make_schedule(_scheduler_config(sampler), int(steps), max_tokens=4608)
        assert list(schedule.timesteps) == table["timesteps"], name
        assert np.abs(np.array(schedule.sigmas) - table["sigmas"]).max() <= 1e-6, name
    dynamic = recorded["flowmatch_dynamic_mu4608_28"]
    config = {**_scheduler_config("flowmatch_euler"), "use_dynamic_shifting": True}
    assert list(make_schedule(config, 28, max_tokens=4608).timesteps) == pytest.approx(dynamic["timesteps"])
    for tokens, shift in recorded["mu_by_max_seq"].items():
        assert resolution_shift(int(tokens)) == pytest.approx(shift, abs=1e-12)


def test_the_refine_stage_starts_at_the_recorded_steps() -> None:
    recorded = json.loads((GOLDEN / "unit" / "schedules.json").read_text())["refine_start_step"]
    assert [refine_start(row["steps"], row["strength"]) for row in recorded] == [row["start"] for row in recorded]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampler", ["unipc", "flowmatch_euler"])
def test_the_solver_takes_the_recorded_path(sampler: str, dtype: str) -> None:
    unit, prefix = _unit("solver"), f"{sampler}_6_{dtype}"
    schedule = make_schedule(_scheduler_config(sampler), 6, max_tokens=128)
    state = SolverState(unit[f"{prefix}.start"])
    for step in range(6):
        state = advance(state, unit[f"{prefix}.v{step}"], step, schedule)
        assert torch.equal(state.latents, unit[f"{prefix}.x{step}"])


def test_both_kinds_of_guidance_match() -> None:
    unit = _unit("guidance")
    at = Velocities(unit["uncond"], unit["image_only"], unit["full"])
    guidance_scale, image_guidance_scale = unit["scales"].tolist()
    for name, normed in (("normed", True), ("plain", False)):
        ours = guide(at, guidance_scale=guidance_scale, image_guidance_scale=image_guidance_scale, normed=normed)
        assert torch.allclose(ours, unit[name], atol=1e-6)


def test_the_rotation_matches() -> None:
    unit = _unit("rope")
    ids = unit["ids"].long()
    rotation = canvas_rotation(48, 96, (64, 32, 32)).rows(ids[:, 1] * 96 + ids[:, 2])
    turned = unit["cos"][:, 32:], unit["sin"][:, 32:]  # the first axis is 0 everywhere
    assert torch.equal(unit["cos"][:, :32], torch.ones(len(ids), 32))
    assert torch.allclose(rotation.cos, turned[0], atol=1e-6)
    assert torch.allclose(rotation.sin, turned[1], atol=1e-6)
    assert torch.allclose(rotate(unit["q"], rotation), unit["q_rotated"], atol=1e-6)
    with torch.inference_mode():
        assert torch.allclose(rotate_own(unit["q"].clone(), rotation), unit["q_rotated"], atol=1e-6)


def test_the_autoencoder_matches() -> None:
    from diffusers import AutoencoderKL

    unit = _unit("vae")
    autoencoder = Autoencoder.of(
        AutoencoderKL.from_pretrained(GOLDEN / "checkpoint" / "vae", torch_dtype=torch.float32)
    )
    with torch.inference_mode():
        latents = autoencoder.encode(unit["pixels"])
        assert (latents - unit["latents_scaled"]).abs().max() <= 2e-4
        assert (autoencoder.decode(unit["latents_scaled"]) - unit["decoded"]).abs().max() <= 1e-3


def test_the_noise_of_a_seed_matches() -> None:
    unit = _unit("noise")
    drawn = {(3, torch.float32), (3, torch.bfloat16)}
    for seed, dtype in drawn:
        ours = draw_noise(seed, (1, 16, 16, 16), dtype)
        assert any(torch.equal(ours, recorded) for recorded in unit.values() if recorded.dtype == dtype)


def _unit(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "unit" / f"{name}.safetensors")


def _scheduler_config(sampler: str) -> dict[str, object]:
    folder = "scheduler" if sampler == "unipc" else "scheduler_flowmatch"
    config: dict[str, object] = json.loads((GOLDEN / "checkpoint" / folder / "scheduler_config.json").read_text())
    return config


def _transformer() -> Transformer:
    folder = GOLDEN / "checkpoint" / "transformer"
    model = Transformer(TransformerConfig.from_json(json.loads((folder / "config.json").read_text())))
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


def _embeddings_of(case: GoldenCase) -> Path:
    """c05 shares the embeddings of c04."""
    own = case.folder / "embeddings.safetensors"
    return own if own.exists() else case.folder.parent / "c04_refine_as_shipped" / "embeddings.safetensors"


def _levels_apart(ours: Picture, file: Path) -> int:
    theirs = np.asarray(Image.open(file), dtype=np.int16).reshape(-1)
    return int(np.abs(np.frombuffer(ours.rgb, np.uint8).astype(np.int16) - theirs).max())
