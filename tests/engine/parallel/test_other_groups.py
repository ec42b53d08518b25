"""Groups that reproduce recorded runs, that lose a rank, or that never come together."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.conftest import GOLDEN, GoldenCase, golden_cases, linked, relative_difference, short_edit
from tests.engine.parallel.conftest import ranks_of, run, wait_until_gone

from hidream_edit.domain.errors import DeviceUnavailable, GroupLost, InputInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.engine import engine_parts
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.parallel import links
from hidream_edit.engine.parallel.group import check_devices

TOLERANCE = 1e-4
PATIENCE_SECONDS = 2.0


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded runs are not beside this checkout")
@pytest.mark.parametrize(
    ("case", "ranks"),
    [
        pytest.param(case, ranks, id=f"{case.name} on {ranks}")
        for case in golden_cases()
        for name, ranks in (("c06", 2), ("c04", 3))
        if case.name.startswith(name)
    ],
)
def test_a_recorded_edit_comes_out_the_same(case: GoldenCase, ranks: int, tmp_path: Path) -> None:
    engine = case.engine(tmp_path / "model", devices=("cpu",) * ranks)
    *_, state = engine.steps(engine.begin(case.source(), engine.settle(case.edit_input())))
    engine.close()
    assert relative_difference(state.solver.latents, case.tensors("outputs")["final_latents"]) <= TOLERANCE


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "stands still"])
def test_a_rank_that_is_lost_ends_the_group(
    how: signal.Signals, four_heads: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    lost: list[str] = []

    def on_loss(reason: str) -> None:
        time.sleep(0.5)  # whoever waits for a step is told after this
        lost.append(reason)

    engine = Engine.load(four_heads, devices=["cpu"] * 3, dtype="float32", on_loss=on_loss)
    processes = ranks_of(engine)
    folder = Path(engine._group._folder.path)  # type: ignore[union-attr]
    state = engine.begin(picture, engine.settle(short_edit(num_inference_steps=50)))
    state = engine.advance(state)
    os.kill(processes[0], how)
    with pytest.raises(GroupLost, match="cannot go on together"):
        engine.advance(engine.advance(engine.advance(state)))
    assert len(lost) == 1
    with pytest.raises(GroupLost, match="cannot go on together"):
        engine.advance(state)
    wait_until_gone(processes)
    assert not folder.exists()
    engine.close()


def test_packed_weights_are_packed_alike_on_every_rank(four_heads: Path, tiny_adapter: Path, picture: Picture) -> None:
    options = {"adapter": tiny_adapter, "dtype": "float32", "quantization": "int8"}
    alone = Engine.load(four_heads, device="cpu", **options)  # type: ignore[arg-type]
    wide = Engine.load(four_heads, adapter=tiny_adapter, device="cpu", dtype="float32")
    together = Engine.load(four_heads, devices=["cpu", "cpu"], **options)  # type: ignore[arg-type]
    try:
        edited = run(together, picture)
        assert relative_difference(edited, run(alone, picture)) <= TOLERANCE
        assert relative_difference(edited, run(wide, picture)) > 10 * TOLERANCE
    finally:
        together.close()


def test_a_device_that_cannot_load_the_model_is_named(tiny_folder: Path) -> None:
    with pytest.raises(DeviceUnavailable, match=r"cuda:7.*not there"):
        Engine.load(tiny_folder, devices=["cpu", "cuda:7"])


def test_devices_of_different_kinds_are_refused() -> None:
    with pytest.raises(DeviceUnavailable, match="different kinds"):
        check_devices(["cpu", "cuda:0"])
    with pytest.raises(DeviceUnavailable, match="twice"):
        check_devices(["cuda:1", "cuda:1"])


def test_a_rank_that_fails_while_loading_is_reported(
    four_heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = linked(four_heads, tmp_path, without=("transformer",))
    load_model = engine_parts.load_model
    monkeypatch.setattr(
        engine_parts,
        "load_model",
        lambda source, **options: load_model(replace(source, model=four_heads), **options),
    )
    with pytest.raises(GroupLost, match=r"rank 1 on cpu: .*transformer"):
        Engine.load(broken, devices=["cpu", "cpu"])


def test_one_device_or_several(tiny_folder: Path) -> None:
    with pytest.raises(InputInvalid, match="not both"):
        Engine.load(tiny_folder, device="cpu", devices=["cpu", "cpu"])
