"""One case, measured: contestants in turns, then how cost grows, then whether results agree."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.engine.cases import Case
from benchmarks.engine.clock import kind_of_seconds
from benchmarks.engine.contestants import CONTESTANTS
from benchmarks.engine.edits import Edit, Words
from benchmarks.engine.processes import Process, started
from benchmarks.engine.worker import FLOOR, TRUTH
from safetensors.torch import load_file
from torch import Tensor

NEGATIVE = "low resolution, blur"
SWEEP_WORDS = 1000  # words of sweeps are not those of any round
LATENTS_TOLERANCE, LEVELS_TOLERANCE = 1e-4, 1  # float32, model.md 15
ERROR_RATIO_MAX = 1.5  # bfloat16, the same section

Workers = dict[str, Process]
Say = Callable[[str], None]


def measured(case: Case, *, device: str, threads: int, say: Say) -> dict[str, Any]:
    """Everything about ``case`` as one JSON object.

    Raises:
        WorkerFailed: a contestant could not do it.
    """
    case.model.prepare()
    names = [contestant.name for contestant in CONTESTANTS]
    together = [*names, FLOOR]
    report: dict[str, Any] = {
        "name": case.name,
        "title": case.title,
        "device": device,
        "seconds_are": kind_of_seconds(torch.device(device), threads),
        "dtype": str(case.dtype).removeprefix("torch."),
        "contestants": {one.name: {"title": one.title, "is_exact": one.is_exact} for one in CONTESTANTS},
        "edits": [
            {**asdict(edit), "branches": edit.branches, "rounds": {name: [] for name in together}}
            for edit in case.edits
        ],
        "sweeps": [
            {
                "title": sweep.title,
                "axis": sweep.axis,
                "counts_steps": sweep.counts_steps,
                "points": [{"at": at, "seconds": {}} for at, _ in sweep.points],
            }
            for sweep in case.sweeps
        ],
    }
    with tempfile.TemporaryDirectory() as scratch:
        for group in [[name] for name in together] if case.one_at_a_time else [together]:
            say(f"{case.name}: loading {', '.join(group)}")
            with started(group, case.name, device, threads) as workers:
                for name in names:
                    if name in workers:
                        report["contestants"][name] |= workers[name].facts
                _warm_up(case, workers)
                _rounds(case, workers, report, Path(scratch), say)
                _sweeps(case, workers, report, say)
        _compare(case, report, Path(scratch))
    if case.judged_edit is not None and _gigabytes(device) >= case.judged_gigabytes:
        say(f"{case.name}: compared with float32")
        report["judged"] = _judged(case, case.judged_edit, names, device, threads)
    return report


def _gigabytes(device: str) -> float:
    """Of a GPU; of a CPU, as many as wanted."""
    return torch.cuda.get_device_properties(0).total_memory / 1e9 if device == "cuda" else float("inf")


def words_of(case: Case, index: int) -> Words:
    """New words every time: both texts are encoded by whoever reads them, and known to nobody."""
    return Words(case.instructions[index % len(case.instructions)], f"{NEGATIVE}, {index}", seed=index + 1)


def _question(do: str, edit: Edit, words: Words, keep: Path | None = None) -> dict[str, Any]:
    return {"do": do, "edit": asdict(edit), "words": asdict(words), "keep": str(keep) if keep else None}


def _warm_up(case: Case, workers: Workers) -> None:
    for name, worker in workers.items():
        if name != FLOOR:
            for edit in case.edits:
                worker.ask(_question("edit", replace(edit, steps=1), words_of(case, 0)))


def _rounds(case: Case, workers: Workers, report: dict[str, Any], scratch: Path, say: Say) -> None:
    for round_index in range(case.rounds):
        say(f"{case.name}: round {round_index + 1} of {case.rounds}")
        # Who began last time ends this time, so that a machine that gets slower favours nobody.
        order = list(workers)[:: -1 if round_index % 2 else 1]
        for index, edit in enumerate(case.edits):
            words = words_of(case, 1 + round_index * len(case.edits) + index)
            rounds = report["edits"][index]["rounds"]
            for name in order:
                if name == FLOOR:
                    answer = workers[name].ask({"do": "floor", "edit": asdict(edit)})
                else:
                    keep = _kept(scratch, name, index) if round_index == 0 else None
                    answer = workers[name].ask(_question("edit", edit, words, keep))
                rounds[name].append(answer)


def _sweeps(case: Case, workers: Workers, report: dict[str, Any], say: Say) -> None:
    repeats = max(1, case.rounds // 3)
    for index, sweep in enumerate(case.sweeps):
        say(f"{case.name}: {sweep.title}")
        do = "step" if sweep.counts_steps else "edit"
        for place, (_, edit) in enumerate(sweep.points):
            # Presets that trade quality leave out parts of some steps: no one step says what they cost.
            asked = [one.name for one in CONTESTANTS if one.is_exact or not sweep.counts_steps]
            seconds: dict[str, list[float]] = {name: [] for name in asked if name in workers}
            for repeat in range(repeats):
                question = _question(do, edit, words_of(case, SWEEP_WORDS + place * repeats + repeat))
                for name, found in seconds.items():
                    found.append(workers[name].ask(question)["seconds"])
            middle = {name: median(found) for name, found in seconds.items()}
            report["sweeps"][index]["points"][place]["seconds"] |= middle


def _kept(scratch: Path, name: str, index: int) -> Path:
    return scratch / f"{name}-{index}.safetensors"


def _compare(case: Case, report: dict[str, Any], scratch: Path) -> None:
    """Distance of each contestant's first result from the published way's."""
    official, *others = CONTESTANTS
    for index in range(len(case.edits)):
        truth = load_file(_kept(scratch, official.name, index))
        differences = {}
        for other in others:
            made = load_file(_kept(scratch, other.name, index))
            latents = relative_difference(made["latents"], truth["latents"])
            levels = int((made["pixels"].int() - truth["pixels"].int()).abs().max())
            differences[other.name] = {
                "latents": latents,
                "levels": levels,
                "within": _is_within(latents, levels) if other.is_exact and case.dtype == torch.float32 else None,
            }
        report["edits"][index]["differences"] = differences


def _is_within(latents: float, levels: int) -> bool:
    return latents <= LATENTS_TOLERANCE and levels <= LEVELS_TOLERANCE


def _judged(case: Case, edit: Edit, names: list[str], device: str, threads: int) -> dict[str, Any]:
    """Errors against a run in float32: ours may be half as large again as the published way's (model.md 15)."""
    latents: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in (TRUTH, *names):
            keep = _kept(Path(scratch), name, 0)
            with started([name], case.name, device, threads) as workers:
                workers[name].ask(_question("edit", edit, words_of(case, SWEEP_WORDS), keep))
            latents[name] = load_file(keep)["latents"]
    errors = {name: relative_difference(latents[name], latents[TRUTH]) for name in names}
    official, *others = CONTESTANTS
    allowed = ERROR_RATIO_MAX * errors[official.name]
    return {
        "edit": edit.label,
        "errors": errors,
        "within": {other.name: errors[other.name] <= allowed for other in others if other.is_exact},
    }


def relative_difference(made: Tensor, truth: Tensor) -> float:
    """‖made − truth‖ / ‖truth‖."""
    return float((made.float() - truth.float()).norm() / truth.float().norm())
