"""Bytes from the event loop to a thread that stores them, a few pieces at a time."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator

PIECES_WAITING_MAX, LOOK_SECONDS = 8, 0.002


class Handover:
    """`serve` runs in a thread, `give` in the event loop."""

    def __init__(self) -> None:
        self._line: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=PIECES_WAITING_MAX)
        self._ended = threading.Event()

    def serve(self, store: Callable[[Iterator[bytes]], object]) -> None:
        """Feed ``store`` until the end is given; an exception that is given is raised inside it."""
        try:
            store(self._pieces())
        finally:
            self._ended.set()

    def _pieces(self) -> Iterator[bytes]:
        while (piece := self._line.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def give(self, piece: bytes | Exception | None) -> None:
        """Hand a piece over, None for the end; waits while the other side is behind."""
        while not self._ended.is_set():
            try:
                self._line.put_nowait(piece)
            except queue.Full:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return
