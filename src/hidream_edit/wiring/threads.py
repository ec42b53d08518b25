"""How many cores each runner of a machine computes with."""

from __future__ import annotations

import os
from collections.abc import Mapping


def threads_of_runner(runner_count: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables for a runner among ``runner_count`` on this machine; what the owner has set stays as it is.

    Each gets its share of the cores, since more threads than cores make every step wait for the slowest. Threads that
    have nothing to do sleep: the API beside them needs a core, too.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = {"OMP_WAIT_POLICY": "PASSIVE"}
    if runner_count > 1:
        wanted["OMP_NUM_THREADS"] = str(max(1, cores // runner_count))
    return {name: value for name, value in wanted.items() if name not in environment}
