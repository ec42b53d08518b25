"""Seconds from a model folder to an engine: with its files in the system's cache, and without.

    make bench-loading                                     the mini model
    python benchmarks/loading.py --model FOLDER --device cuda

Cold is after the system was told to forget the folder's pages; what it says it has forgotten is believed. Each loading
is in a process of its own that has loaded the mini model before, so that imports are not counted. Prints one JSON
object; whoever runs it puts the numbers into benchmarks/LOG.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from hidream_edit.engine.engine import Engine
from hidream_edit.engine.known_models import BUNDLED

ROUNDS = 5


def files_of(folder: Path) -> list[Path]:
    """What loading may read."""
    return [file for file in folder.rglob("*") if file.is_file()]


def forget(files: list[Path]) -> None:
    """Ask the system to drop the pages of ``files`` from its cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def folder_of(model: str | None) -> Path:
    return Path(model) if model else BUNDLED


def load_once(model: str | None, device: str, *, cold: bool) -> None:
    """In a process of its own: print the seconds."""
    Engine.load(device="cpu").close()  # imports what loading imports
    if cold:
        forget(files_of(folder_of(model)))
    began = time.perf_counter()
    Engine.load(model, device=device).close()
    print(time.perf_counter() - began)


def timed(model: str | None, device: str, *, cold: bool) -> float:
    command = [sys.executable, "-W", "ignore", __file__, "--once", "cold" if cold else "warm", "--device", device]
    command += ["--model", model] if model else []
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", help="a folder; the mini model without it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--once", choices=("cold", "warm"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        load_once(options.model, options.device, cold=options.once == "cold")
        return
    files = files_of(folder_of(options.model))
    weights = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    timed(options.model, options.device, cold=False)
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(ROUNDS):
        for name, found in seconds.items():
            found.append(timed(options.model, options.device, cold=name == "cold"))
    report: dict[str, Any] = {"MB of weights": round(weights / 1e6, 1), "device": options.device}
    for name, found in seconds.items():
        report[name] = {
            "seconds": [round(one, 3) for one in found],
            "median": round(median(found), 3),
            "MB/s": round(weights / 1e6 / median(found)),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
