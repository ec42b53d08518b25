"""Each way to compute less, beside the plain path."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import random_picture, relative_difference, short_edit

from hidream_edit.domain.edit import Fit
from hidream_edit.domain.errors import InputInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.engine import engine_parts, stage_transformers
from hidream_edit.engine import measures as measures_module
from hidream_edit.engine.devices import multiplies_bfloat16
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.guidance import Guidance, edit_branches
from hidream_edit.engine.measures import measures_for
from hidream_edit.engine.model.experts import MixtureOfExperts
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.rebuilding import grouped_products_work, rebuild
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.state import EditState

CPU = torch.device("cpu")
# Compiled blocks have a test below, recorded forwards are in test_recorded.py: neither can be had on every machine.
SINGLE = {name: Measures(**{name: True}) for name in Measures.names() if name not in ("compiled", "recorded")}
TOGETHER = {
    "on a CPU": measures_for(CPU, torch.float32),
    "on a GPU": Measures(trims=True, one_pad=True, dead_branches=True, fused=True, grouped=True),
}
ROUNDING = 1e-5  # relative, in the final latents


def edited(engine: Engine, picture: Picture, **fields: object) -> EditState:
    *_, state = engine.steps(engine.begin(picture, engine.settle(short_edit(**fields))))
    return state


class Pair:
    """The tiny model loaded plainly, and once for each set of measures."""

    def __init__(self, folder: Path, adapter: Path) -> None:
        self._folder, self._adapter = folder, adapter
        self._engines: dict[Measures, Engine] = {}

    def engine(self, measures: Measures) -> Engine:
        if measures not in self._engines:
            self._engines[measures] = Engine.load(
                self._folder, adapter=self._adapter, device="cpu", dtype="float32", measures=measures
            )
        return self._engines[measures]

    def difference(self, measures: Measures, picture: Picture, **fields: object) -> float:
        taken, plain = (edited(self.engine(one), picture, **fields) for one in (measures, PLAIN))
        assert len(taken.pictures) == len(plain.pictures) == 1
        return float(relative_difference(taken.solver.latents, plain.solver.latents))


@pytest.fixture(scope="module")
def pair(tiny_folder: Path, tiny_adapter: Path) -> Pair:
    return Pair(tiny_folder, tiny_adapter)


@pytest.mark.parametrize("measures", [*SINGLE.values(), *TOGETHER.values()], ids=[*SINGLE, *TOGETHER])
@pytest.mark.parametrize("size", [(64, 64), (48, 64)], ids=["square", "padded"])
def test_a_measure_changes_an_edit_by_rounding_only(pair: Pair, measures: Measures, size: tuple[int, int]) -> None:
    picture = random_picture(*size, seed=3)
    settings = {"fit": Fit.NATIVE, "refine_strength": 0.5}
    assert pair.difference(measures, picture, **settings) <= ROUNDING


@pytest.mark.parametrize("measures", TOGETHER.values(), ids=TOGETHER)
@pytest.mark.parametrize("normed", [True, False], ids=["normed", "plain"])
@pytest.mark.parametrize("scales", [(3.5, 1.0), (3.5, 3.5), (3.5, 0.0), (1.0, 2.0)], ids=str)
def test_scales_that_cancel_a_branch_give_the_picture_of_all_branches(
    pair: Pair, picture: Picture, measures: Measures, normed: bool, scales: tuple[float, float]
) -> None:
    guidance_scale, image_guidance_scale = scales
    fields = {
        "guidance_scale": guidance_scale,
        "image_guidance_scale": image_guidance_scale,
        "normed_guidance": normed,
        "refine_strength": 0.0,
    }
    assert pair.difference(measures, picture, **fields) <= ROUNDING


@pytest.mark.parametrize(
    ("guidance", "count"),
    [
        (Guidance(3.5, 2.0, normed=True), 3),
        (Guidance(3.5, 2.0, normed=False), 3),
        (Guidance(3.5, 1.0, normed=True), 2),
        (Guidance(3.5, 1.0, normed=False), 2),
        (Guidance(3.5, 3.5, normed=False), 2),
        (Guidance(3.5, 3.5, normed=True), 3),
        (Guidance(3.5, 0.0, normed=True), 1),
        (Guidance(3.5, 0.0, normed=False), 3),
        (Guidance(1.0, 2.0, normed=True), 1),
    ],
)
def test_only_living_branches_are_computed(guidance: Guidance, count: int) -> None:
    assert len(edit_branches(guidance, with_dead=False)) == count
    assert len(edit_branches(guidance)) == (3 if guidance.is_on else 1)


def test_where_every_token_goes_to_one_expert_grouped_products_agree(pair: Pair, picture: Picture) -> None:
    engine, plain = pair.engine(SINGLE["grouped"]), pair.engine(PLAIN)
    for each in (engine, plain):
        for block in each._loaded.edit_transformer.blocks:
            block.ff_i.gate.weight.data[1:] = 0
            block.ff_i.gate.weight.data[0] = 1
    fields = {"refine_strength": 0.0}
    taken, expected = edited(engine, picture, **fields), edited(plain, picture, **fields)
    pair._engines.clear()
    assert relative_difference(taken.solver.latents, expected.solver.latents) <= ROUNDING


def test_measures_are_changed_by_their_names() -> None:
    default = measures_for(CPU, torch.float32)
    changed = default.changed("ahead, no-trims,no-channels-last")
    assert (changed.ahead, changed.trims, changed.channels_last) == (True, False, False)
    assert changed == Measures(**{**asdict(default), "ahead": True, "trims": False, "channels_last": False})
    assert default.changed("") == default
    with pytest.raises(InputInvalid, match="'quick' is no measure; there are trims, one_pad"):
        default.changed("ahead,quick")


def test_an_engine_takes_changes_to_its_default_measures(tiny_folder: Path) -> None:
    engine = Engine.load(tiny_folder, device="cpu", dtype="float32", measures="ahead,no-onednn")
    assert engine._loaded.edit_transformer.measures == measures_for(CPU, torch.float32).changed("ahead,no-onednn")
    with pytest.raises(InputInvalid, match="no measure"):
        Engine.load(tiny_folder, device="cpu", measures="fast")


def test_bfloat16_by_onednn_is_no_further_from_float32_than_the_plain_path_is(
    tiny_folder: Path, picture: Picture
) -> None:
    if not (multiplies_bfloat16(CPU) and measures_for(CPU, torch.bfloat16).onednn):
        pytest.skip("this processor has no instructions for bfloat16")

    def latents(dtype: str, measures: Measures | None) -> torch.Tensor:
        engine = Engine.load(tiny_folder, device="cpu", dtype=dtype, measures=measures)
        return edited(engine, picture).solver.latents.float()

    exact = latents("float32", PLAIN)
    ours, plain = (relative_difference(latents("bfloat16", one), exact) for one in (None, PLAIN))
    assert 0 < ours <= 1.5 * plain  # model.md 15


def test_a_processor_without_bfloat16_is_told_and_does_not_use_onednn_for_it(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (engine_parts, measures_module):
        monkeypatch.setattr(module, "multiplies_bfloat16", lambda _: False)
    said: list[str] = []
    engine = Engine.load(tiny_folder, device="cpu", dtype="bfloat16", progress=said.append)
    assert not engine._loaded.edit_transformer.measures.onednn
    assert any("no instructions for bfloat16" in line for line in said)


def test_grouped_products_are_tried_before_they_are_taken() -> None:
    assert grouped_products_work(CPU, torch.float32)
    assert grouped_products_work(CPU, torch.bfloat16)


@pytest.mark.parametrize("size", [(64, 64), (48, 64)], ids=["square", "padded"])
def test_a_compiled_block_has_no_break_and_no_second_compilation_for_another_step(
    size: tuple[int, int], tiny_folder: Path
) -> None:
    from torch._dynamo.testing import CompileCounter  # slow to import

    torch._dynamo.reset()
    measures = Measures(trims=True, one_pad=True, fused=True, grouped=True)
    picture = random_picture(*size)
    engine = Engine.load(tiny_folder, device="cpu", dtype="bfloat16", measures=measures)
    seen = CompileCounter()
    for block in engine._loaded.edit_transformer.blocks:
        block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False, backend=seen)
    edited(engine, picture, fit=Fit.NATIVE)
    first = seen.frame_count
    edited(engine, picture, fit=Fit.NATIVE, edit_instruction="another one", num_inference_steps=7)
    assert 0 < first == seen.frame_count
    torch._dynamo.reset()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 512, 513, 1100])
def test_an_expert_meets_a_few_numbers_of_rows_only(count: int) -> None:
    experts = MixtureOfExperts(16, 2, 1)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    tokens = torch.randn(1, count, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = experts(tokens)
        experts.by_onednn = True  # the pieces alone: the products of the experts stay plain
        seen: list[int] = []
        for expert in experts.experts:
            expert.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        assert torch.allclose(experts(tokens), whole, atol=1e-5)
    assert all(rows <= 512 and rows % 64 == 0 for rows in seen)


def test_nothing_holds_the_plain_weights_when_layers_are_fused(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Engine.load(tiny_folder, device="cpu")._loaded.edit_transformer.config
    weights = dict(Transformer(config).state_dict())
    held: list[int] = []

    def rebuilt(transformer: Transformer) -> Transformer:
        held.append(len(weights))
        return rebuild(transformer)

    monkeypatch.setattr(stage_transformers, "rebuild", rebuilt)
    stage_transformers.assembled(config, Measures(fused=True, grouped=True), weights)
    assert held == [0]
