"""Weights in fewer bits: what they become, how near edits stay, and that plans and precision know of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.conftest import random_picture, short_edit
from torch import Tensor, nn

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.errors import InputInvalid, StateInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.adapter import DOWN, UP, adapted_weight, merge
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.memory.packing import Packing, kept_as, packed_bytes, packed_in_transformer
from hidream_edit.engine.memory.plan import Arrangement, Place
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.quality.quantized import (
    NF4_LEVELS,
    QuantizedLinear,
    linear_weights,
    packed,
    quantize,
    unpacked,
)
from hidream_edit.engine.state import EditState

SMALLER = [kept for kept in Quantization if kept is not Quantization.NONE]
# What bitsandbytes 0.50.2 makes of the weight below, two in a byte.
BITSANDBYTES = (
    "79dfe30e a1f0f1ae 03efd979 dfe30ea1 f0f1ae02 efda8adf e21e91f0 f18e12df "
    "ebacefd1 1e71f0f2 6f11cfed cdefb12f 43e1e34f 20affede ff803f25 d1d62f50"
)
each_quantization = pytest.mark.parametrize("kept", SMALLER)


def weight_of(rows: int, columns: int, *, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) / 50


def known_weight() -> Tensor:
    return torch.sin(torch.arange(128.0) ** 2 / 7).view(2, 64) * torch.tensor([[1.0], [0.02]])


def loaded(folder: Path | None, kept: Quantization, **options: object) -> Engine:
    return Engine.load(folder, device="cpu", dtype="float32", quantization=kept.value, **options)  # type: ignore[arg-type]


def finished(engine: Engine, source: Picture, edit: EditInput) -> EditState:
    *_, state = engine.steps(engine.begin(source, engine.settle(edit)))
    return state


def decibels(ours: Picture, exact: Picture) -> float:
    """PSNR."""
    first, second = (np.frombuffer(one.rgb, np.uint8).astype(float) for one in (ours, exact))
    return float(10 * np.log10(255**2 / max(float(((first - second) ** 2).mean()), 1e-9)))


# Weights


def test_int8_is_off_by_half_a_code_at_most() -> None:
    weight = weight_of(48, 100)
    kept = packed(weight, Quantization.INT8)
    assert kept.codes.dtype is torch.int8
    assert kept.codes.abs().amax(dim=1).eq(127).all()
    assert ((unpacked(*kept) - weight).abs() <= kept.scales * 0.5001).all()


def test_float8_keeps_four_bits_of_each_weight() -> None:
    weight = weight_of(48, 100)
    kept = packed(weight, Quantization.FLOAT8)
    assert kept.codes.dtype is torch.float8_e4m3fn
    # Half a unit in the last of four bits; below 2⁻⁶ of e4m3's own scale, half of the smallest step.
    allowed = torch.maximum(weight.abs() / 16, kept.scales * 2**-10) * 1.001
    assert ((unpacked(*kept) - weight).abs() <= allowed).all()


def test_nf4_takes_the_nearest_level_of_each_block() -> None:
    weight = weight_of(6, 192)
    kept = packed(weight, Quantization.NF4)
    assert kept.codes.shape == (6, 96)
    assert kept.scales.shape == (6, 3)
    blocks = weight.view(6, 3, 64)
    levels = torch.tensor(NF4_LEVELS) * blocks.abs().amax(dim=2)[..., None, None]
    nearest = (levels - blocks[..., None]).abs().amin(dim=-1).view_as(weight)
    assert torch.allclose((unpacked(*kept) - weight).abs(), nearest, atol=1e-7)


def test_nf4_is_what_bitsandbytes_makes() -> None:
    kept = packed(known_weight(), Quantization.NF4)
    assert bytes(kept.codes.flatten().tolist()) == bytes.fromhex(BITSANDBYTES)


@each_quantization
def test_what_was_widened_is_packed_to_the_same_codes(kept: Quantization) -> None:
    once = packed(weight_of(16, 128), kept)
    twice = packed(unpacked(*once), kept)
    assert torch.equal(once.codes.view(torch.uint8), twice.codes.view(torch.uint8))


@each_quantization
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_weight_is_widened_to_the_precision_that_it_had(kept: Quantization, dtype: torch.dtype) -> None:
    weight = weight_of(32, 64).to(dtype)
    wide = unpacked(*packed(weight, kept))
    assert wide.dtype is dtype
    error = (wide.float() - weight.float()).norm() / weight.float().norm()
    assert error < (0.11 if kept is Quantization.NF4 else 0.04)


@each_quantization
def test_a_row_of_zeros_stays_one(kept: Quantization) -> None:
    weight = weight_of(3, 64)
    weight[1] = 0
    wide = unpacked(*packed(weight, kept))
    assert torch.equal(wide[1], torch.zeros(64))
    assert wide.isfinite().all()


def test_what_cannot_be_packed_is_told() -> None:
    with pytest.raises(ValueError, match="no packed form"):
        packed(weight_of(2, 64), Quantization.NONE)
    with pytest.raises(ValueError, match="multiple of 64"):
        packed(weight_of(2, 60), Quantization.NF4)
    model = nn.ModuleDict({"norm": nn.LayerNorm(4)})
    with pytest.raises(TypeError, match="LayerNorm"):
        quantize(model, ["norm.weight"], Quantization.INT8)


@each_quantization
def test_a_layer_multiplies_by_its_widened_weight(kept: Quantization) -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 3, bias=False))
    rows = weight_of(5, 64, seed=1)
    quantize(model, ["0.weight"], kept)
    layer = model[0]
    assert isinstance(layer, QuantizedLinear)
    assert torch.equal(layer(rows), nn.functional.linear(rows, unpacked(layer.codes, layer.scales), layer.bias))
    assert [*layer.state_dict()] == ["codes", "scales", "bias"]
    assert type(model[1]) is nn.Linear


# Which, and how large


def test_modulation_and_rows_that_blocks_do_not_divide_get_eight_bits() -> None:
    assert kept_as("blocks.0.ff.w1.weight", 128, Quantization.NF4) is Quantization.NF4
    assert kept_as("blocks.0.ff.w1.weight", 100, Quantization.NF4) is Quantization.INT8
    assert kept_as("blocks.0.adaLN_modulation.1.weight", 128, Quantization.NF4) is Quantization.INT8
    assert kept_as("blocks.0.adaLN_modulation.1.weight", 128, Quantization.FLOAT8) is Quantization.FLOAT8


@each_quantization
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_of_a_packed_weight_are_known_before(kept: Quantization, dtype: torch.dtype) -> None:
    codes, scales = packed(weight_of(24, 192).to(dtype), kept)
    assert packed_bytes(24, 192, kept, item=dtype.itemsize) == codes.nbytes + scales.nbytes


def test_the_linear_layers_of_the_blocks_are_packed_and_nothing_else(tiny_engine: Engine) -> None:
    with torch.device("meta"):
        transformer = Transformer(tiny_engine._loaded.edit_transformer.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in transformer.state_dict().items()}
    names = linear_weights(transformer)
    assert names == packed_in_transformer(shapes)
    assert "double_stream_blocks.0.block.attn1.to_q_t.weight" in names
    assert "single_stream_blocks.0.block.ff_i.experts.0.w2.weight" in names
    assert not any("gate" in name or "embedder" in name or "final" in name or "caption" in name for name in names)


@each_quantization
def test_a_model_takes_as_much_as_its_sizes_say(kept: Quantization, tiny_folder: Path) -> None:
    engine = loaded(tiny_folder, kept)
    sizes, parts = engine.plan.sizes, engine._loaded
    assert sizes.quantization is kept
    assert sum(tensor.nbytes for tensor in parts.edit_transformer.parameters()) == sizes.transformers[0].weights
    encoders = parts.text_encoders
    for encoder, planned in zip(
        (encoders.clip_l, encoders.clip_g, encoders.t5, encoders.llama), sizes.encoders, strict=True
    ):
        assert isinstance(encoder, nn.Module)
        assert sum(tensor.nbytes for tensor in encoder.parameters()) == planned.part.weights
        assert any(isinstance(layer, QuantizedLinear) for layer in encoder.modules())
        assert planned.unpacked > planned.part.weights


def test_the_widest_weight_is_what_widening_takes() -> None:
    packing = Packing(Quantization.NF4, frozenset({"a", "b"}), 2)
    shapes = {"a": (8, 64), "b": (2, 128), "norm": (10**6,)}
    assert packing.unpacking(shapes) == 8 * 64 * 2 + 8 * 64 // 2 * 4
    assert replace(packing, quantization=Quantization.INT8).unpacking(shapes) == 8 * 64 * 2
    assert replace(packing, quantization=Quantization.NONE).unpacking(shapes) == 0


# Edits


def test_without_one_nothing_changes(tiny_folder: Path, tiny_engine: Engine, picture: Picture) -> None:
    plain = finished(loaded(tiny_folder, Quantization.NONE), picture, short_edit())
    assert plain.pictures == finished(tiny_engine, picture, short_edit()).pictures
    assert plain.traded is None


def test_the_mini_model_edits_nearly_as_well_in_eight_bits_and_recognisably_in_four() -> None:
    source = random_picture(96, 64)
    edit = EditInput(edit_instruction="make it night", seed=1)
    exact = finished(Engine.load(device="cpu"), source, edit).pictures[0]
    near = {kept: decibels(finished(loaded(None, kept), source, edit).pictures[0], exact) for kept in SMALLER}
    assert near[Quantization.INT8] > 40
    assert near[Quantization.FLOAT8] > 40
    assert near[Quantization.NF4] > 30
    assert near[Quantization.NF4] < near[Quantization.INT8] < 100  # it does change the picture


@each_quantization
def test_an_edit_says_what_its_weights_were(kept: Quantization, tiny_folder: Path, picture: Picture) -> None:
    traded = finished(loaded(tiny_folder, kept), picture, short_edit(num_inference_steps=3)).traded
    assert traded is not None
    assert (traded.quality, traded.quantization) == (Quality.EXACT, kept)
    assert (traded.steps, traded.steps_computed) == (3, 3)
    assert traded.branches == traded.branches_computed > 0
    assert traded.as_json()["quantization"] == kept.value
    assert traded.in_words().endswith(f"with weights in {kept.value}")


@each_quantization
@pytest.mark.parametrize(
    "arrangement",
    [Arrangement((Place.DEVICE,) * 4, 2), Arrangement((Place.HOST,) * 4, 0), Arrangement((Place.DISK,) * 4, 5)],
    ids=["some blocks streamed", "all in host memory", "encoders on disk"],
)
def test_plans_give_the_same_bits(
    kept: Quantization, arrangement: Arrangement, tiny_folder: Path, picture: Picture
) -> None:
    resident = finished(loaded(tiny_folder, kept), picture, short_edit())
    moved = finished(loaded(tiny_folder, kept, memory=arrangement), picture, short_edit())
    assert torch.equal(moved.solver.latents, resident.solver.latents)


@each_quantization
def test_an_adapter_is_merged_before_weights_are_packed(
    kept: Quantization, tiny_folder: Path, tiny_adapter: Path, adapted_engine: Engine
) -> None:
    from safetensors.torch import load_file

    engine = loaded(tiny_folder, kept, adapter=tiny_adapter)
    refine = engine._loaded.refine_transformer
    assert refine is not None
    pieces = load_file(tiny_adapter)
    down = next(name for name in pieces if name.endswith(DOWN))
    stem = adapted_weight(down).removesuffix(".weight")
    plain = adapted_engine._loaded.refine_transformer
    assert plain is not None
    base = plain.state_dict()[f"{stem}.weight"].float()  # kept as its file has it
    merged = merge(base, pieces[down], pieces[down.replace(DOWN, UP)])
    for transformer, weight in ((engine._loaded.edit_transformer, merged), (refine, base)):
        wanted = packed(weight, kept_as(stem, weight.shape[1], kept))
        codes = transformer.get_parameter(f"{stem}.codes")
        assert torch.equal(codes.view(torch.uint8), wanted.codes.view(torch.uint8))


def test_stages_share_what_the_adapter_leaves_alone(tiny_folder: Path, tiny_adapter: Path) -> None:
    engine = loaded(tiny_folder, Quantization.INT8, adapter=tiny_adapter)
    edit, refine = engine._loaded.edit_transformer, engine._loaded.refine_transformer
    assert refine is not None
    tensors = [*edit.parameters(), *refine.parameters()]
    real = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    planned = sum(part.own_weights for part in engine.plan.sizes.transformers)
    assert 0 <= planned - real < 0.01 * real


def test_every_measure_that_changes_layers_still_meets_wide_weights(tiny_folder: Path, picture: Picture) -> None:
    measures = Measures(**dict.fromkeys(Measures.names(), True)).without("compiled")
    everything = finished(loaded(tiny_folder, Quantization.NF4, measures=measures), picture, short_edit())
    plain = finished(loaded(tiny_folder, Quantization.NF4, measures=Measures()), picture, short_edit())
    assert torch.allclose(everything.solver.latents, plain.solver.latents, atol=1e-5)


def test_an_edit_goes_on_only_with_the_weights_it_began_with(
    tiny_folder: Path, tiny_engine: Engine, picture: Picture
) -> None:
    engine = loaded(tiny_folder, Quantization.INT8)
    state = engine.advance(engine.begin(picture, engine.settle(short_edit())))
    saved = EditState.from_bytes(state.to_bytes())
    assert saved.quantization is Quantization.INT8
    assert engine.advance(saved).pictures == engine.advance(state).pictures
    with pytest.raises(StateInvalid, match="int8"):
        tiny_engine.advance(saved)


def test_quality_and_quantization_go_together(tiny_folder: Path, picture: Picture) -> None:
    traded = finished(loaded(tiny_folder, Quantization.INT8), picture, short_edit(quality=Quality.TURBO)).traded
    assert traded is not None
    assert (traded.quality, traded.quantization) == (Quality.TURBO, Quantization.INT8)


def test_what_excludes_itself_is_told(tiny_folder: Path) -> None:
    with pytest.raises(InputInvalid, match="float8 or a quantization, not both"):
        loaded(tiny_folder, Quantization.INT8, float8="emulated")
    with pytest.raises(InputInvalid, match="quantization should be 'none', 'float8', 'int8' or 'nf4', not 'int3'"):
        Engine.load(tiny_folder, device="cpu", quantization="int3")
