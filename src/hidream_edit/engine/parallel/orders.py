"""What rank 0 says to the processes of the other ranks, and what they report: JSON, a line each, over pipes.

A pipe also says when the other end is gone, however it went. Waiting for an order may take days, which a collective of
torch.distributed would give up.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import IO, Any


def write_line(into: IO[bytes], message: dict[str, Any]) -> None:
    """Raises OSError: nobody reads it any more."""
    into.write(json.dumps(message).encode() + b"\n")
    into.flush()


class Orders:
    """Lines from rank 0, read by a thread, which calls ``when_gone`` at their end."""

    def __init__(self, descriptor: int, when_gone: Callable[[], None]) -> None:
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._read, args=(descriptor, when_gone), name="orders", daemon=True).start()

    def next(self) -> dict[str, Any]:
        """The next one, whenever it comes."""
        order: dict[str, Any] = json.loads(self._lines.get())
        return order

    def _read(self, descriptor: int, when_gone: Callable[[], None]) -> None:
        with os.fdopen(descriptor, "rb", closefd=False) as lines:
            for line in lines:
                self._lines.put(line)
        when_gone()
