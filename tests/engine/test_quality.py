"""What is traded where an edit need not be exact: nothing by default, the same bytes always, and told in numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from tests.engine.conftest import random_picture, relative_difference, short_edit

from hidream_edit.domain.errors import DeviceUnavailable, InputInvalid, ModelFileInvalid, StateInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality
from hidream_edit.engine.cards import read_defaults
from hidream_edit.engine.edit_pipeline import EditPipeline
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.measures import measures_for
from hidream_edit.engine.model.blocks import DoubleStreamBlock
from hidream_edit.engine.quality.drift import Point, drift, remembered
from hidream_edit.engine.quality.float8 import Float8Linear, Float8Products, quantised
from hidream_edit.engine.quality.presets import TRADES, Trades
from hidream_edit.engine.quality.shortcuts import LENGTH, Shortcuts, weighed
from hidream_edit.engine.schedule import Schedule
from hidream_edit.engine.state import EditState

EAGER = Trades(tolerance=1e9, skips_max=2, guided_every=2)
STEPS = 10


@pytest.fixture
def eager(tiny_engine: Engine, adapted_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets so eager that random weights, whose velocities change much from step to step, are traded too."""
    for engine in (tiny_engine, adapted_engine):
        monkeypatch.setattr(engine, "trades", {**TRADES, Quality.BALANCED: EAGER, Quality.TURBO: EAGER})


def with_trades(engine: Engine, monkeypatch: pytest.MonkeyPatch, trades: Trades) -> None:
    monkeypatch.setattr(engine, "trades", {**TRADES, Quality.TURBO: trades})


def begun(engine: Engine, source: Picture, **fields: object) -> EditState:
    return engine.begin(source, engine.settle(short_edit(**({"num_inference_steps": STEPS} | fields))))


def finished(engine: Engine, source: Picture, **fields: object) -> EditState:
    *_, state = engine.steps(begun(engine, source, **fields))
    return state


# How far a velocity has moved


def points(*values: tuple[float, float]) -> list[Point]:
    return [Point(sigma, torch.full((1, 4), value)) for sigma, value in values]


def test_the_rate_between_the_last_two_is_taken_to_go_on() -> None:
    past = points((0.8, 2.0), (0.9, 1.9))
    assert drift(past, 0.7) == pytest.approx(0.1)
    assert drift(past, 0.6) == pytest.approx(0.2)
    assert drift(points((0.8, 2.0), (0.9, 2.0)), 0.1) == 0


def shortcuts(*velocities: tuple[float, float], pulls: tuple[tuple[float, float], ...] = ()) -> Shortcuts:
    return Shortcuts(tuple(points(*velocities)), tuple(points(*pulls)))


def test_a_velocity_is_held_up_to_the_tolerance() -> None:
    past = shortcuts((0.8, 2.0), (0.9, 1.9))  # moves by 5 % of itself in a tenth
    assert past.may_hold(0.7, Trades(0.051, 1))
    assert not past.may_hold(0.7, Trades(0.049, 1))
    assert not past.may_hold(0.6, Trades(0.051, 1))
    assert not shortcuts((0.8, 2.0)).may_hold(0.7, Trades(9.0, 1))
    assert not shortcuts((0.8, 0.0), (0.9, 0.0)).may_hold(0.7, Trades(9.0, 1))  # nothing has no relative change


def test_a_pull_is_used_again_up_to_the_tolerance_of_the_velocity_that_it_pulls() -> None:
    past = shortcuts((0.8, 2.0), pulls=((0.8, 0.5), (0.9, 0.4)))  # moves by 5 % of the velocity, not of itself
    assert past.may_reuse_pull(0.7, Trades(0.051, guided_every=2))
    assert not past.may_reuse_pull(0.7, Trades(0.049, guided_every=2))
    assert not past.may_reuse_pull(0.7, Trades(0.051))


def test_a_velocity_under_a_reused_pull_counts_the_change_of_the_pull_too() -> None:
    past = shortcuts((0.8, 2.0), (0.9, 2.0), pulls=((0.8, 0.5), (0.9, 0.4)))
    assert past.may_hold(0.7, Trades(0.01, 1))
    assert not replace(past, unguided_in_a_row=1).may_hold(0.7, Trades(0.01, 1))


def schedule_of(*sigmas: float) -> Schedule:
    return Schedule("euler", tuple(1000 * sigma for sigma in sigmas[:-1]), sigmas, order=1)


def test_a_long_step_is_held_with_the_square_of_its_length_less() -> None:
    schedule, trades = schedule_of(1.0, 1 - LENGTH, 1 - 3 * LENGTH, 0.0), Trades(tolerance=0.9, skips_max=2)
    assert weighed(trades, schedule, 0).tolerance == pytest.approx(0.9)
    assert weighed(trades, schedule, 1).tolerance == pytest.approx(0.9 / 4)
    assert weighed(trades, schedule, 2).tolerance < 0.01
    assert replace(weighed(trades, schedule, 1), tolerance=0.9) == trades


def test_a_short_step_is_held_no_more_than_one_of_the_usual_length() -> None:
    assert weighed(Trades(tolerance=0.9), schedule_of(1.0, 0.999, 0.0), 0).tolerance == 0.9


def test_of_an_edit_with_few_steps_nothing_is_left_out() -> None:
    trades = Trades(tolerance=1.0, skips_max=2, guided_every=2, steps_min=3, float8=True)
    assert weighed(trades, schedule_of(1.0, 0.99, 0.0), 0) == Trades(float8=True)
    assert weighed(trades, schedule_of(1.0, 0.99, 0.5, 0.0), 0) == trades


@pytest.mark.parametrize("quality", [Quality.BALANCED, Quality.TURBO])
def test_presets_compute_everything_of_edits_with_fewer_than_sixteen_steps(
    quality: Quality, tiny_engine: Engine, picture: Picture
) -> None:
    traded = finished(tiny_engine, picture, quality=quality, num_inference_steps=15).traded
    assert traded is not None
    assert (traded.steps, traded.steps_computed) == (15, 15)
    assert TRADES[quality].steps_min == 16


def test_two_points_are_remembered_newest_first() -> None:
    past: tuple[Point, ...] = ()
    for number in range(5):
        past = remembered(past, Point(float(number), torch.zeros(1)))
    assert [point.sigma for point in past] == [4.0, 3.0]


# Presets


def test_exact_is_the_default_and_trades_nothing(tiny_engine: Engine, picture: Picture) -> None:
    state = finished(tiny_engine, picture)
    assert state.settings.quality is Quality.EXACT
    assert state.traded is None
    assert TRADES[Quality.EXACT] == Trades()


def test_every_quality_has_its_trades() -> None:
    assert TRADES.keys() == set(Quality)


@pytest.mark.parametrize("fields", [{}, {"guidance_scale": 1.0}, {"normed_guidance": False, "num_images": 2}])
def test_with_a_tolerance_of_zero_the_result_is_exact_to_the_bit(
    fields: dict[str, object], tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trades(tiny_engine, monkeypatch, Trades(tolerance=0.0, skips_max=4))
    turbo = finished(tiny_engine, picture, quality=Quality.TURBO, **fields)
    assert turbo.pictures == finished(tiny_engine, picture, **fields).pictures
    assert turbo.traded is not None
    assert turbo.traded.steps_computed == turbo.traded.steps == turbo.steps_total
    assert turbo.traded.branches_computed == turbo.traded.branches


@pytest.mark.usefixtures("eager")
def test_what_was_left_out_is_counted_and_changes_the_picture_a_little(tiny_engine: Engine, picture: Picture) -> None:
    state = finished(tiny_engine, picture, quality=Quality.TURBO)
    traded = state.traded
    assert traded is not None
    assert (traded.steps, traded.steps_computed) == (STEPS, 5)
    assert traded.steps_computed < traded.branches_computed < 3 * traded.steps_computed
    assert traded.branches == 3 * STEPS
    exact = finished(tiny_engine, picture)
    assert relative_difference(state.solver.latents, exact.solver.latents) > 0


def test_the_first_two_steps_and_the_last_are_always_computed(
    tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trades(tiny_engine, monkeypatch, Trades(tolerance=1e9, skips_max=100))
    edit = tiny_engine.steps(begun(tiny_engine, picture, quality=Quality.TURBO))
    assert [state.shortcuts.steps_computed for state in edit] == [1, *[2] * (STEPS - 2), 3]


def test_no_more_steps_in_a_row_are_left_out_than_allowed(
    tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trades(tiny_engine, monkeypatch, Trades(tolerance=1e9, skips_max=2))
    in_a_row = [
        state.shortcuts.held_in_a_row for state in tiny_engine.steps(begun(tiny_engine, picture, quality=Quality.TURBO))
    ]
    assert in_a_row == [0, 0, 1, 2, 0, 1, 2, 0, 1, 0]


def test_the_solver_runs_every_step(tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    with_trades(tiny_engine, monkeypatch, Trades(tolerance=1e9, skips_max=100))
    orders = [state.solver.order for state in tiny_engine.steps(begun(tiny_engine, picture, quality=Quality.TURBO))]
    assert orders == [1, *[2] * (STEPS - 2), 1]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_short_edit_has_nothing_to_leave_out(steps: int, tiny_engine: Engine, picture: Picture) -> None:
    short = {"num_inference_steps": steps, "guidance_scale": 1.0}
    turbo = finished(tiny_engine, picture, quality=Quality.TURBO, **short)
    assert turbo.pictures == finished(tiny_engine, picture, **short).pictures


def test_velocities_and_pulls_that_change_by_more_than_the_tolerance_are_computed(
    tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trades(tiny_engine, monkeypatch, Trades(tolerance=0.05, skips_max=3, guided_every=2))
    fields = {"guidance_scale": 5.0, "num_inference_steps": 6}
    turbo = finished(tiny_engine, picture, quality=Quality.TURBO, **fields)
    assert turbo.traded is not None
    assert turbo.traded.branches_computed == turbo.traded.branches
    assert turbo.pictures == finished(tiny_engine, picture, **fields).pictures


# The same bytes, whatever happens in between


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("quality", [Quality.BALANCED, Quality.TURBO])
def test_an_edit_that_is_set_aside_and_saved_goes_on_to_the_same_bytes(quality: Quality, tiny_engine: Engine) -> None:
    source = random_picture(50, 40, alpha=True)
    fields = {"quality": quality, "num_images": 2, "num_inference_steps": 7}
    whole = finished(tiny_engine, source, **fields)
    state = begun(tiny_engine, source, **fields)
    while not state.is_done:
        state = EditState.from_bytes(tiny_engine.advance(state).to_bytes())
        finished(tiny_engine, source, num_inference_steps=1, quality=quality)  # another edit in between
    assert tiny_engine.finish(state).pictures == whole.pictures
    assert state.traded == whole.traded
    assert whole.traded is not None
    assert whole.traded.steps_computed < whole.traded.steps


@pytest.mark.usefixtures("eager")
def test_image_k_equals_the_single_image_of_seed_plus_k(tiny_engine: Engine, picture: Picture) -> None:
    several = finished(tiny_engine, picture, quality=Quality.TURBO, num_images=2, seed=10).pictures
    singles = tuple(finished(tiny_engine, picture, quality=Quality.TURBO, seed=10 + k).pictures[0] for k in range(2))
    assert several == singles


@pytest.mark.usefixtures("eager")
def test_the_refine_stage_remembers_nothing_of_the_edit_stage(adapted_engine: Engine, picture: Picture) -> None:
    state = begun(adapted_engine, picture, quality=Quality.TURBO, refine_strength=0.5, num_inference_steps=12)
    for state in adapted_engine.steps(state):  # noqa: B020 - each state replaces the one before
        if state.step == 7:
            assert len(state.shortcuts.velocities) == 1
            assert state.shortcuts.unguided_in_a_row == 0
    assert state.traded is not None
    assert state.traded.branches == 6 * 3 + 6 * 2
    assert state.traded.steps_computed < 12


def test_a_state_of_before_there_was_a_choice_is_an_exact_one(tiny_engine: Engine, picture: Picture) -> None:
    state = tiny_engine.advance(begun(tiny_engine, picture, num_inference_steps=3))
    restored = EditState.from_bytes(as_before(state.to_bytes()))
    assert restored.settings == state.settings
    *_, end = tiny_engine.steps(restored)
    assert end.pictures == finished(tiny_engine, picture, num_inference_steps=3).pictures


def as_before(data: bytes) -> bytes:
    """A saved state as a version without qualities wrote it."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    facts = json.loads(metadata["state"])
    del facts["shortcuts"], facts["float8"], facts["settings"]["quality"]
    return bytes(save_tensors(load_tensors(data), metadata={**metadata, "state": json.dumps(facts)}))


# How it is asked for


def test_an_engine_may_have_a_default_of_its_own(tiny_folder: Path) -> None:
    engine = Engine.load(tiny_folder, device="cpu", quality="balanced")
    assert engine.settle(short_edit()).quality is Quality.BALANCED
    assert engine.settle(short_edit(quality=Quality.EXACT)).quality is Quality.EXACT


def test_an_unknown_quality_is_refused_before_anything_loads(tiny_folder: Path, tiny_engine: Engine) -> None:
    for ask in (
        lambda: Engine.load(tiny_folder, quality="best"),
        lambda: tiny_engine.settle(short_edit(quality="best")),
    ):
        with pytest.raises(InputInvalid, match="'exact', 'balanced' or 'turbo', not 'best'") as caught:
            ask()
        assert caught.value.field == "quality"


def test_a_folder_may_bring_a_default_and_a_wrong_one_is_told(tmp_path: Path, tiny_engine: Engine) -> None:
    file, defaults = tmp_path / "defaults.json", tiny_engine.model.defaults
    file.write_text('{"quality": "balanced"}')
    assert read_defaults(tmp_path, defaults).quality is Quality.BALANCED
    file.write_text('{"quality": "best"}')
    with pytest.raises(ModelFileInvalid, match="best"):
        read_defaults(tmp_path, defaults)


def test_the_pipeline_takes_it_by_name(tiny_engine: Engine) -> None:
    from PIL import Image

    image = Image.new("RGB", (64, 64), "orange")
    result = EditPipeline(tiny_engine)(image, "make it night", seed=1, num_inference_steps=2, quality="turbo")
    assert result.settings.quality is Quality.TURBO
    assert result.traded is not None
    assert result.traded.steps == 2


# Float8


@pytest.fixture(scope="module")
def float8_engine(tiny_folder: Path) -> Engine:
    return Engine.load(tiny_folder, device="cpu", dtype="float32", float8="emulated")


def test_rows_in_float8_keep_their_size_and_four_bits() -> None:
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-6], [1], [1e4], [3], [0]])
    values, scale = quantised(rows)
    back = values.float() * scale
    assert torch.isfinite(back).all()
    assert torch.equal(back[4], rows[4])
    largest = rows.abs().amax(1, keepdim=True)
    assert ((back - rows).abs() <= rows.abs() / 16 + largest / 2**15).all()


def test_the_wide_products_of_the_blocks_are_in_float8_and_nothing_else(float8_engine: Engine) -> None:
    transformer = float8_engine._loaded.edit_transformer
    names = {name for name, module in transformer.named_modules() if isinstance(module, Float8Linear)}
    assert names
    assert all(".block.attn1." in name or ".block.ff_" in name for name in names)
    first = transformer.blocks[0]
    assert isinstance(first, DoubleStreamBlock)
    assert not any(isinstance(module, Float8Linear) for module in first.adaLN_modulation)
    in_blocks = {
        name
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and ".block." in name and "adaLN" not in name
    }
    assert names == in_blocks


def test_float8_changes_an_edit_that_is_not_exact_and_no_other(
    float8_engine: Engine, tiny_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trades(float8_engine, monkeypatch, Trades(float8=True))
    single = measures_for(torch.device("cpu"), torch.float32).without("onednn", "fused", "grouped")
    plain = finished(Engine.load(tiny_folder, device="cpu", dtype="float32", measures=single), picture)
    assert finished(float8_engine, picture).pictures == plain.pictures
    traded = finished(float8_engine, picture, quality=Quality.TURBO)
    assert traded.traded is not None
    assert traded.traded.float8
    assert 1e-4 < relative_difference(traded.solver.latents, plain.solver.latents) < 0.5
    assert finished(float8_engine, picture, quality=Quality.TURBO).pictures == traded.pictures


def test_an_edit_goes_on_only_with_the_products_it_began_with(
    float8_engine: Engine, tiny_engine: Engine, picture: Picture
) -> None:
    state = begun(float8_engine, picture, quality=Quality.TURBO)
    assert EditState.from_bytes(state.to_bytes()).float8
    with pytest.raises(StateInvalid, match="float8"):
        tiny_engine.advance(state)


def test_float8_is_refused_where_it_would_not_be_faster(tiny_folder: Path) -> None:
    with pytest.raises(DeviceUnavailable, match=r"8\.9"):
        Engine.load(tiny_folder, device="cpu", float8=True)


def test_weights_that_are_kept_in_float8_give_the_same_bits(tiny_folder: Path, picture: Picture) -> None:
    engines = [Engine.load(tiny_folder, device="cpu", float8="emulated") for _ in range(2)]
    keeping = Float8Products([engines[1]._loaded.edit_transformer], emulated=True, keeps=True)
    engines[1]._products = keeping
    first, second = (finished(one, picture, quality=Quality.TURBO, num_inference_steps=3) for one in engines)
    assert first.pictures == second.pictures
    assert all(layer.kept is not None for layer in keeping.layers)


def test_weights_that_pass_through_the_device_may_be_in_float8_too(tiny_folder: Path, picture: Picture) -> None:
    from hidream_edit.engine.memory.plan import Arrangement, Place

    streamed = Engine.load(
        tiny_folder, device="cpu", float8="emulated", memory=Arrangement((Place.HOST,) * 4, resident_blocks=1)
    )
    resident = Engine.load(tiny_folder, device="cpu", float8="emulated")
    first, second = (
        finished(one, picture, quality=Quality.TURBO, num_inference_steps=3) for one in (streamed, resident)
    )
    assert first.pictures == second.pictures
