"""Both sides of the benchmark compute the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.engine import models
from benchmarks.engine.cases import CASES, MINI, TINY, TINY_ON_DEVICE, Case
from benchmarks.engine.clock import CPU_TIME, WALL_TIME, clock_of, kind_of_seconds
from benchmarks.engine.contestants import Official, Preset
from benchmarks.engine.measuring import relative_difference, words_of
from benchmarks.engine.memory import PeakMemory

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cache_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CACHE", tmp_path)


@pytest.mark.parametrize("case", [MINI, TINY], ids=lambda case: case.name)
def test_in_float32_they_agree(case: Case) -> None:
    clock = clock_of(CPU, 1)
    official = Official(case.model, CPU, torch.float32, clock)
    ours = Preset()(case.model, CPU, torch.float32, clock)
    for index, edit in enumerate(case.edits):
        theirs, made = (one.edit(edit, words_of(case, index)) for one in (official, ours))
        assert relative_difference(made.latents, theirs.latents) <= 1e-5
        assert int((made.pixels.int() - theirs.pixels.int()).abs().max()) <= 1
        assert len(theirs.step_seconds) == edit.steps
        assert len(made.step_seconds) == edit.steps - 2  # the first reads texts, the last decodes
        assert 0 < made.step_seconds[0] < made.seconds


def test_in_bfloat16_neither_strays_much_further_from_float32() -> None:
    case, clock = TINY_ON_DEVICE, clock_of(CPU, 1)
    edit, words = case.edits[0], words_of(case, 0)
    truth = Preset()(case.model, CPU, torch.float32, clock).edit(edit, words).latents
    errors = {
        name: relative_difference(load(case.model, CPU, torch.bfloat16, clock).edit(edit, words).latents, truth)
        for name, load in {"official": Official, "exact": Preset()}.items()
    }
    assert errors["exact"] <= 1.5 * errors["official"] < 0.1  # and they are the same model


def test_every_instruction_for_the_mini_model_is_one_that_it_knows() -> None:
    engine = MINI.model.engine(CPU, torch.float32)
    vocabulary = engine.model.vocabulary
    assert vocabulary is not None
    unknown = [
        words_of(MINI, index).instruction
        for index in range(len(MINI.instructions))
        if not engine._reader.knows(f"Editing Instruction: {MINI.instructions[index]}. Target Image Description: ")
    ]
    assert unknown == []


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_no_edit_of_a_case_reads_a_text_of_another(case: Case) -> None:
    count = 1 + case.rounds * len(case.edits)  # and the warm-up
    words = [words_of(case, index) for index in range(count)]
    assert len({one.negative for one in words}) == count
    assert case.name == "mini" or len({one.instruction for one in words}) == count


@pytest.mark.parametrize(
    ("device", "threads", "kind"), [("cpu", 1, CPU_TIME), ("cpu", 2, WALL_TIME), ("cuda", 1, WALL_TIME)]
)
def test_one_thread_is_timed_by_what_it_used(device: str, threads: int, kind: str) -> None:
    assert kind_of_seconds(torch.device(device), threads) == kind


def test_a_peak_is_seen_after_the_memory_is_free_again() -> None:
    memory = PeakMemory(CPU)
    memory.restart()
    before = memory.bytes()
    block = torch.ones(64 * 2**20)  # 256 MiB
    del block
    assert memory.bytes() - before > 128 * 2**20
