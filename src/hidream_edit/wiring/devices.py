"""Which devices the runners of a server work on. Torch is never imported here."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from hidream_edit.domain.errors import InputInvalid
from hidream_edit.settings import ModelSettings

NULL = "null"
# Asked in a process of its own: whoever asks the driver keeps what it opens.
COUNT_CUDA_DEVICES = """
import ctypes
driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
print(count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0)
"""
ASK_SECONDS = 20.0


def devices_of_runners(models: ModelSettings, per_edit: int) -> list[tuple[str, ...]]:
    """The devices of each runner: one for each visible CUDA device, or for each ``per_edit`` of those that are named.

    A runner that is named no device takes what is there.

    Raises:
        InputInvalid: the devices do not come out even, or are named twice over.
    """
    named = named_devices(models)
    if models.device is not None:
        if named or per_edit > 1:
            raise InputInvalid("give --device, or --devices for several; not both", field="devices")
        return [()]  # it reads that setting itself
    if not named and models.model != NULL and (found := count_cuda_devices()) > 1:
        named = tuple(f"cuda:{index}" for index in range(found))
    if not named and per_edit == 1:
        return [()]
    if not named or len(named) % per_edit:
        raise InputInvalid(
            f"{len(named)} devices cannot be shared out {per_edit} at a time; name as many as that with --devices",
            field="devices_per_edit",
        )
    return [named[first : first + per_edit] for first in range(0, len(named), per_edit)]


def named_devices(models: ModelSettings) -> tuple[str, ...]:
    """``cuda:0,cuda:1`` as names."""
    return tuple(name.strip() for name in (models.devices or "").split(",") if name.strip())


def count_cuda_devices() -> int:
    """As many as the driver shows this process, by ``CUDA_VISIBLE_DEVICES`` too; 0 where torch or the driver is not
    there, or torch was built for CPUs."""
    try:
        if version("torch").endswith("+cpu"):
            return 0
    except PackageNotFoundError:
        return 0
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    command: Sequence[str] = (sys.executable, "-c", COUNT_CUDA_DEVICES)
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)  # noqa: S603 - our own program
    except (OSError, subprocess.SubprocessError):
        return 0
    return int(asked.stdout)
