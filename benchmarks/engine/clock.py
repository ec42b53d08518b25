"""Which seconds are counted."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]
CPU_TIME, WALL_TIME = "of the processor", "on the wall"


def kind_of_seconds(device: torch.device, threads: int) -> str:
    """One thread on a CPU: what the process itself used, which is what the wall clock would show on a core of its own.

    Benchmarks often run beside other jobs, and then the wall clock tells more about those. With several threads, or a
    device that computes while the process waits, only the wall clock tells how long something took.
    """
    return CPU_TIME if device.type == "cpu" and threads == 1 else WALL_TIME


def clock_of(device: torch.device, threads: int) -> Clock:
    """Seconds of that kind; on a GPU, after all that was asked of it is done."""
    if kind_of_seconds(device, threads) == CPU_TIME:
        return time.process_time
    if device.type != "cuda":
        return time.perf_counter

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited
