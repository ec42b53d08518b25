"""A picture through an autoencoder piece by piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def in_tiles(
    run: Callable[[Tensor], Tensor], whole: Tensor, *, tile: int, overlap: int, scale: tuple[int, int]
) -> Tensor:
    """``run`` over tiles of ``whole`` (1, channels, rows, columns), blended where they overlap.

    A side that comes out is ``scale[0] / scale[1]`` times as long as the one that went in; tiles begin at multiples of
    ``scale[1]``. Where ``whole`` is no larger than a tile, this is ``run(whole)``.
    """
    rows, columns = whole.shape[-2:]
    if rows <= tile and columns <= tile:
        return run(whole)
    grown, shrunk = scale
    summed: Tensor | None = None
    weights: Tensor | None = None
    for top in starts(rows, tile, overlap, shrunk):
        for left in starts(columns, tile, overlap, shrunk):
            piece = run(whole[..., top : top + tile, left : left + tile])
            height, width = piece.shape[-2:]
            if summed is None or weights is None:
                size = (rows * grown // shrunk, columns * grown // shrunk)
                summed = torch.zeros(*piece.shape[:2], *size, dtype=torch.float32, device=piece.device)
                weights = torch.zeros(size, dtype=torch.float32, device=piece.device)
            ramp = overlap * grown // shrunk
            weight = faded(height, ramp, piece.device)[:, None] * faded(width, ramp, piece.device)
            at = (slice(top * grown // shrunk, None), slice(left * grown // shrunk, None))
            summed[(..., *at)][..., :height, :width] += piece.float() * weight
            weights[at][:height, :width] += weight
            dtype = piece.dtype
    assert summed is not None  # noqa: S101 - there is at least one tile
    assert weights is not None  # noqa: S101
    return (summed / weights).to(dtype)


def starts(length: int, tile: int, overlap: int, unit: int = 1) -> list[int]:
    """Where tiles begin, in multiples of ``unit``: evenly spread, overlapping by ``overlap`` or nearly so at least."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [index * (length - tile) // (count - 1) // unit * unit for index in range(count)]


def faded(length: int, ramp: int, device: torch.device) -> Tensor:
    """Weights of a tile's rows: 1, falling towards both ends over ``ramp``; never 0, so that borders count too."""
    distance = torch.arange(length, device=device).minimum(torch.arange(length - 1, -1, -1, device=device))
    return ((distance + 1) / (ramp + 1)).clamp(max=1.0).float()
