"""Which device and precision, and whether the weights fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from hidream_edit.domain.errors import DeviceUnavailable, MemoryTooSmall

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Working memory beside the weights: activations, buffers of the libraries, the picture itself.
HEADROOM_BYTES = 512 * 2**20


def choose_device(asked: str | None) -> torch.device:
    """``asked``, or the GPU where there is one.

    Raises:
        DeviceUnavailable: it is not there.
    """
    if asked in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(str(asked))
    except RuntimeError as problem:
        raise DeviceUnavailable(f"{asked} is not a device; try cpu, cuda or cuda:1") from problem
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceUnavailable(f"{asked} is not there: this machine has {count} CUDA devices")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceUnavailable("this machine has no Metal device")
    elif device.type != "cpu":
        raise DeviceUnavailable(f"{asked} is not a device this engine runs on; try cpu, cuda or mps")
    return device


def choose_dtype(asked: str | None, device: torch.device) -> torch.dtype:
    """``asked``, or bfloat16 on a GPU and float32 elsewhere.

    Raises:
        DeviceUnavailable: not a precision that this engine computes in.
    """
    if asked in (None, "auto"):
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if asked not in DTYPES:
        raise DeviceUnavailable(f"{asked} is not a precision; choose {', '.join(DTYPES)}")
    return DTYPES[asked]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 faster than float32. A processor without instructions for it widens each
    number first."""
    if device.type != "cpu":
        return True
    # No public name says it. AMX tiles multiply bfloat16 wherever they are.
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name)()) for name in known if hasattr(torch.cpu, name))


@contextmanager
def exact_inference() -> Iterator[None]:
    """No gradients, and no TF32 where float32 was asked for."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def free_bytes(device: torch.device) -> int:
    """Memory that new tensors on ``device`` can take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def free_host_bytes() -> int:
    """Memory of the machine that weights can be kept in."""
    return int(psutil.virtual_memory().available)


def check_memory(needed_bytes: int, device: torch.device) -> None:
    """Refuse before anything is allocated.

    Raises:
        MemoryTooSmall: says what is needed and what is free.
    """
    free = free_bytes(device)
    if needed_bytes + HEADROOM_BYTES > free:
        raise MemoryTooSmall(
            f"the weights need {needed_bytes / 2**30:.1f} GiB on {device}, {free / 2**30:.1f} GiB are free; "
            "close other programs, choose dtype bfloat16, a quantization, another device, or a smaller model"
        )
