"""The process of a rank other than 0: ``python -m hidream_edit.engine.parallel.rank``, started by `Group`.

It holds the transformers only, and lives as long as rank 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import IO, Any, Self

import torch

from hidream_edit.domain.errors import HidreamEditError
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.checked_model import ModelSource
from hidream_edit.engine.devices import choose_device, choose_dtype
from hidream_edit.engine.loading import load_transformers
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.parallel.links import World
from hidream_edit.engine.parallel.meeting import meeting_place
from hidream_edit.engine.parallel.orders import Orders, write_line
from hidream_edit.engine.parallel.seat import Order, Seat

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a rank is told first."""

    rank: int
    ranks: int
    device: str
    dtype: str
    memory: str | None
    exchange: float
    threads: int  # on a CPU
    folder: str  # where the ranks meet
    source: dict[str, Any]
    measures: dict[str, Any]
    quantization: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        return cls(**told)


def main() -> None:
    """Load, join, and take part in every forward until rank 0 is gone."""
    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        # They reach all processes of a terminal or a service; rank 0 decides what they mean.
        signal.signal(number, signal.SIG_IGN)
    reports = _reports()
    # Rank 0 is gone: nothing here is worth keeping, and nothing may wait for a collective.
    orders = Orders(sys.stdin.fileno(), lambda: os._exit(0))
    told = Assignment.from_json(orders.next())
    device = choose_device(told.device)
    if device.type == "cpu":
        torch.set_num_threads(told.threads)
    try:
        transformers = load_transformers(
            ModelSource(**told.source),
            device=device,
            dtype=choose_dtype(told.dtype, device),
            memory=told.memory,
            measures=Measures(**told.measures),
            quantization=Quantization(told.quantization),
            progress=lambda words: write_line(reports, {"says": words}),
        )
    except HidreamEditError as error:
        write_line(reports, {"failed": str(error)})
        sys.exit(1)
    write_line(reports, {"loaded": True})
    orders.next()  # all others have loaded too
    heads = transformers[0].config.num_attention_heads
    world = World(told.rank, told.ranks, device=device, heads=heads, exchange=told.exchange)
    world.join(meeting_place(told.folder))
    write_line(reports, {"joined": True})
    work(Seat(world, transformers), orders, device)


@torch.inference_mode()
def work(seat: Seat, orders: Orders, device: torch.device) -> None:
    """Take part in one forward after the other."""
    while True:
        order = Order.from_json(orders.next())
        canvas = torch.empty(order.canvas, dtype=getattr(torch, order.dtype), device=device)
        timesteps = torch.empty(order.canvas[0], device=device)
        seat.take_part(order, (canvas, timesteps), None)


def _reports() -> IO[bytes]:
    """Standard output, for reports alone: what libraries print goes to standard error."""
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return reports


def _die_with_parent() -> None:
    """Also where this process cannot see that rank 0 is gone, since it stands still."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
