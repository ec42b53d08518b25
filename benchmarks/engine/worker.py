"""One contestant, or the floor, in a process of its own: one JSON object per line in, one per line out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.engine.cases import CASES, Case
from benchmarks.engine.clock import clock_of
from benchmarks.engine.contestants import CONTESTANTS, Loaded, Preset
from benchmarks.engine.edits import Edit, Words
from benchmarks.engine.energy import energy_counter
from benchmarks.engine.floor import flops_of, measured_seconds, work_of_forward
from benchmarks.engine.memory import PeakMemory
from safetensors.torch import save_file

FLOOR, TRUTH = "floor", "float32"  # names of workers beside the contestants'


class Worker:
    """Loads what it is named after, then answers."""

    def __init__(self, name: str, case: Case, device: torch.device, threads: int) -> None:
        self._case, self._device = case, device
        self._clock = clock_of(device, threads)
        self._memory = PeakMemory(device)
        self._joules = energy_counter(device)
        self._loaded: Loaded | None = None
        self.facts: dict[str, Any] = {"tells_energy": self._joules is not None}
        if name == FLOOR:
            return
        load = Preset() if name == TRUTH else next(one.load for one in CONTESTANTS if one.name == name)
        self._loaded = load(case.model, device, torch.float32 if name == TRUTH else case.dtype, self._clock)
        self.facts["peak_bytes_loading"] = self._memory.bytes()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked: ``edit``, ``step`` or ``floor``."""
        edit = Edit(**question["edit"])
        if question["do"] == "floor":
            return self._floor(edit)
        words = Words(**question["words"])
        assert self._loaded is not None
        if question["do"] == "step":
            return {"seconds": self._loaded.step(edit, words)}
        self._memory.restart()
        before = self._joules() if self._joules else None
        began = time.perf_counter()
        outcome = self._loaded.edit(edit, words)
        wall_seconds = time.perf_counter() - began
        if question.get("keep"):
            save_file({"latents": outcome.latents.contiguous(), "pixels": outcome.pixels}, question["keep"])
        return {
            "seconds": outcome.seconds,
            "wall_seconds": wall_seconds,
            "step_seconds": list(outcome.step_seconds),
            "peak_bytes": self._memory.bytes(),
            "joules": self._joules() - before if self._joules and before is not None else None,
        }

    def _floor(self, edit: Edit) -> dict[str, Any]:
        model = self._case.model
        work = work_of_forward(
            model.config,
            image_tokens=model.config.max_tokens,
            text_rows=model.text_rows,
            branches=edit.branches,
        )
        return {
            "flops": flops_of(work),
            "seconds": measured_seconds(work, self._device, self._case.dtype, self._clock),
        }


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], facts: dict[str, Any], out: Any) -> None:
    """Answer until nobody asks any more."""
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


def main() -> None:
    """Serve on the pipes that this process was started with."""
    name, case, device, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    # Libraries print on what they take for standard output.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(name, CASES[case], torch.device(device), int(threads))
    serve(worker.answer, worker.facts, out)


if __name__ == "__main__":
    main()
