"""Energy, where the device tells it: the counter of an NVIDIA card, or that of the processor's package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")


def energy_counter(device: torch.device) -> Callable[[], float] | None:
    """A function that returns joules since some moment; None where this machine does not tell."""
    return _of_card(device) if device.type == "cuda" else _of_packages()


def _of_card(device: torch.device) -> Callable[[], float] | None:
    try:
        import pynvml  # type: ignore[import-not-found]  # an extra of the machine's owner: package nvidia-ml-py
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        card: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000


def _of_packages() -> Callable[[], float] | None:
    # One counter per package; those below (core, dram) are parts of it. A counter that wraps gives one negative
    # difference, which the median over rounds leaves out.
    files = sorted(POWERCAP.glob("intel-rapl:[0-9]/energy_uj"))
    try:
        for file in files:
            file.read_text()
    except OSError:
        return None  # readable by root alone on most systems
    return (lambda: sum(int(file.read_text()) for file in files) / 1e6) if files else None
