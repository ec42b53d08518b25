"""How much memory a process took at its worst."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
KIB = 1024


class PeakMemory:
    """Bytes at the worst moment, over what the process held when this was made, which is after its imports.

    On a GPU these are bytes that torch allocated there; on a CPU the resident set, weights read through a map included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0 if device.type == "cuda" else _resident("VmRSS")

    def restart(self) -> None:
        """Forget what was before; where the system cannot, the peak stays that of the whole process."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif RESET.exists():
            RESET.write_text(RESET_PEAK)

    def bytes(self) -> int:
        """The peak since the start, or since the last `restart`."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return max(0, _resident("VmHWM") - self._before)


def _resident(field: str) -> int:
    """A field of the process's status in bytes; without such a file, the peak that every Unix tells."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * KIB
