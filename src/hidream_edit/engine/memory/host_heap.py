"""Memory of this process that nothing uses any more, given back to the system.

GNU's C library keeps what is freed between things that live on. Of a mid-size model that was 108 of 675 MiB after its
weights were read and merged, and 266 of 896 after a step (benchmarks/LOG.md).
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Callable

from hidream_edit.engine.memory.plan import MemoryPlan

# Of decoding, which comes on top of what the steps left: below it, asking costs a small edit a hundredth of its time.
WORTH_BYTES = 2**27


def give_back() -> None:
    """Some 20 ms for 300 MB; nothing with other C libraries, which give back by themselves or cannot be asked."""
    trim = _trim()
    if trim is not None:
        trim(0)


def give_back_before_decoding(plan: MemoryPlan) -> None:
    """The same where decoding takes so much of the host's memory that it is worth it."""
    if plan.is_shared and plan.sizes.autoencoder.decode >= WORTH_BYTES:
        give_back()


@functools.cache
def _trim() -> Callable[[int], int] | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    return trim
