"""The base's weights for the refine stage stay as narrow as their file has them, and give the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.conftest import linked, short_edit
from tests.support.live_bytes import LiveBytes

from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.adapter import DOWN, UP, adapted_weight
from hidream_edit.engine.as_stored import kept_as_stored, widening_bytes
from hidream_edit.engine.checked_model import CheckedTransformers, ModelSource, check_transformers
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.folders import ModelFolder
from hidream_edit.engine.memory.plan import Arrangement, Place
from hidream_edit.engine.model.grouped_experts import GroupedExperts
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.transformer import Transformer

WAYS = {
    "plain": PLAIN,
    "onednn": Measures(onednn=True),
    "fused": Measures(fused=True),
    "grouped": Measures(grouped=True),
    "fused and grouped": Measures(fused=True, grouped=True),
}
AS_STORED = Measures(as_stored=True)


def load(folder: Path, measures: Measures, **options: object) -> Engine:
    return Engine.load(folder, device="cpu", measures=measures, **{"dtype": "float32"} | options)


def refined(engine: Engine, picture: Picture) -> torch.Tensor:
    *_, state = engine.steps(engine.begin(picture, engine.settle(short_edit(refine_strength=0.5))))
    return state.solver.latents


def weights_of_both(engine: Engine) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    refine = engine._loaded.refine_transformer
    assert refine is not None
    return engine._loaded.edit_transformer.state_dict(), refine.state_dict()


def checked(folder: Path, **source: Path) -> CheckedTransformers:
    return check_transformers(ModelSource(folder, **source), ModelFolder(folder))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("arrangement", [None, Arrangement((Place.HOST,) * 4, 0)], ids=["resident", "streamed"])
def test_edits_are_the_same_to_the_bit(
    way: Measures, arrangement: Arrangement | None, tiny_folder: Path, tiny_adapter: Path, picture: Picture
) -> None:
    options = {"adapter": tiny_adapter, "memory": arrangement}
    narrow, wide = (load(tiny_folder, replace(way, as_stored=on), **options) for on in (True, False))
    assert torch.equal(refined(narrow, picture), refined(wide, picture))
    narrow_bytes, wide_bytes = (
        sum(tensor.nbytes for tensor in weights_of_both(one)[1].values()) for one in (narrow, wide)
    )
    assert narrow_bytes < 0.75 * wide_bytes


def test_what_the_adapter_changes_is_narrow_in_the_refine_stage_and_nowhere_else(
    tiny_folder: Path, tiny_adapter: Path
) -> None:
    edit, refine = weights_of_both(load(tiny_folder, AS_STORED, adapter=tiny_adapter))
    adapted = {adapted_weight(name) for name in load_file(tiny_adapter) if name.endswith((DOWN, UP))}
    assert {tensor.dtype for tensor in edit.values()} == {torch.float32}
    narrow = {name for name, tensor in refine.items() if tensor.dtype is torch.bfloat16}
    assert narrow == {name for name in adapted if "_stream_blocks." in name}
    file = load_file(tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(refine[name], file[name]) for name in narrow)
    assert all(edit[name].data_ptr() == refine[name].data_ptr() for name in edit.keys() - adapted)


def test_a_base_of_its_own_is_narrow_too(tiny_folder: Path, other_transformer: Path, picture: Picture) -> None:
    narrow, wide = (load(tiny_folder, one, base=other_transformer) for one in (AS_STORED, PLAIN))
    assert torch.equal(refined(narrow, picture), refined(wide, picture))
    _, refine = weights_of_both(narrow)
    assert refine["double_stream_blocks.0.block.attn1.to_q.weight"].dtype is torch.bfloat16
    assert refine["double_stream_blocks.0.block.adaLN_modulation.1.weight"].dtype is torch.float32


@pytest.mark.parametrize("with_base", [False, True], ids=["adapter", "base"])
@pytest.mark.parametrize("way", [PLAIN, WAYS["fused and grouped"]], ids=["plain", "together"])
def test_the_plan_counts_what_is_there(
    way: Measures, with_base: bool, tiny_folder: Path, tiny_adapter: Path, other_transformer: Path
) -> None:
    second = {"base": other_transformer} if with_base else {"adapter": tiny_adapter}
    engine = load(tiny_folder, replace(way, as_stored=True), **second)
    # Layers that are put together are copies, so only those that are not can be shared.
    tensors = [tensor for weights in weights_of_both(engine) for tensor in weights.values()]
    real = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    planned = sum(part.own_weights for part in engine.plan.sizes.transformers)
    assert abs(planned - real) < 0.01 * real


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_nothing_changes_where_the_file_is_no_narrower(dtype: str, tiny_folder: Path, tiny_adapter: Path) -> None:
    for weights in weights_of_both(load(tiny_folder, AS_STORED, adapter=tiny_adapter, dtype=dtype)):
        assert {tensor.dtype for tensor in weights.values()} == {getattr(torch, dtype)}


def test_float32_and_eight_bit_files_are_not_kept_as_they_are(tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path, without=("transformer",))
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").symlink_to(tiny_folder / "transformer" / "config.json")
    file = "diffusion_pytorch_model.safetensors"
    weights = load_file(tiny_folder / "transformer" / file)
    save_file({name: tensor.float() for name, tensor in weights.items()}, folder / "transformer" / file)
    assert kept_as_stored(checked(folder, base=folder), torch.float32, AS_STORED) == {}
    assert set(kept_as_stored(checked(tiny_folder, base=tiny_folder), torch.float32, AS_STORED).values()) == {
        torch.bfloat16
    }


def test_layers_that_take_only_what_they_compute_with_stay_wide(tiny_folder: Path, tiny_adapter: Path) -> None:
    pieces = load_file(tiny_adapter)
    found = checked(tiny_folder, adapter=tiny_adapter)
    modulation = next(name for name in found.shapes if name.endswith("adaLN_modulation.1.weight"))
    outputs, inputs = found.shapes[modulation]
    stem = modulation.removesuffix(".weight")
    pieces |= {stem + DOWN: torch.zeros(4, inputs), stem + UP: torch.zeros(outputs, 4)}
    assert found.adapter is not None
    header = next(iter(found.adapter.values()))
    wider = replace(found, adapter={**found.adapter, stem + DOWN: header, stem + UP: header})
    assert kept_as_stored(wider, torch.float32, AS_STORED) == kept_as_stored(found, torch.float32, AS_STORED)


def test_it_is_off_where_weights_are_packed(tiny_folder: Path, tiny_adapter: Path) -> None:
    options = {"adapter": tiny_adapter, "quantization": Quantization.INT8.value}
    _, refine = weights_of_both(load(tiny_folder, AS_STORED, **options))
    assert torch.bfloat16 not in {tensor.dtype for tensor in refine.values()}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_widened_at_one_time_is_counted(way: Measures, tiny_folder: Path, tiny_adapter: Path) -> None:
    """Only the products that widen most are run: with one row, so that nothing else weighs."""
    found = checked(tiny_folder, adapter=tiny_adapter)
    names = kept_as_stored(found, torch.float32, AS_STORED)
    engine = load(tiny_folder, replace(way, as_stored=True), adapter=tiny_adapter)
    refine = engine._loaded.refine_transformer
    assert refine is not None
    counted = widening_bytes(names, found.shapes, way, item=4)
    most = 0
    with torch.inference_mode():
        for part in widening_parts(refine):
            tokens = torch.zeros(1, 1, found.config.width)
            with LiveBytes() as alive:
                part(tokens)
            most = max(most, alive.peak)
    beside = 128 * found.config.width  # the row, hidden units, slots
    assert counted <= most <= 1.05 * counted + beside


def widening_parts(transformer: Transformer) -> list[torch.nn.Module]:
    block = transformer.blocks[0].ff_i
    return [block] if isinstance(block, GroupedExperts) else [block.shared_experts, *block.experts]
