"""A plan carried out: modules go where the plan says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from hidream_edit.engine.memory.plan import MemoryPlan, Place
from hidream_edit.engine.memory.streaming import BlockStream, FromDisk, FromHost, Slots
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.text_encoders import Lender

CPU = torch.device("cpu")


def placed_encoder(read: Callable[[torch.device], nn.Module], place: Place, device: torch.device) -> nn.Module | Lender:
    """The encoder that ``read`` puts on a device, where its place is."""
    if place is Place.DEVICE:
        return read(device)
    if place is Place.HOST:
        return FromHost(read(CPU), device)
    return FromDisk(lambda: read(CPU), device)


def streamed_names(names: Sequence[str], plan: MemoryPlan) -> frozenset[str]:
    """Weights of a transformer that the plan keeps in host memory."""
    doubles = len({name.split(".")[1] for name in names if name.startswith("double_stream_blocks.")})
    kinds = {"double_stream_blocks": 0, "single_stream_blocks": doubles}
    streamed = set(plan.streamed)

    def is_streamed(name: str) -> bool:
        kind, _, rest = name.partition(".")
        return kind in kinds and kinds[kind] + int(rest.split(".", 1)[0]) in streamed

    return frozenset(name for name in names if is_streamed(name))


def stream_blocks(transformers: Sequence[Transformer], plan: MemoryPlan, device: torch.device) -> list[BlockStream]:
    """Let the blocks that the plan keeps in host memory pass through the device, all of them through the same slots."""
    if not plan.streamed:
        return []
    streams = [
        # What is called is the block inside its layer of naming.
        BlockStream([blocks[index].block for index in plan.streamed], pinned=device.type == "cuda", around=True)
        for blocks in ([*each.double_stream_blocks, *each.single_stream_blocks] for each in transformers)
    ]
    slots = Slots(device, max(stream.largest for stream in streams), plan.slots)
    for stream in streams:
        stream.slots = slots
    return streams
