"""Canvas ↔ patches (model.md 6)."""

from __future__ import annotations

import torch
from torch import Tensor


def patches_of(canvas: Tensor, patch: int) -> Tensor:
    """(batch, channels, rows, columns) → (batch, tokens, patch²·channels).

    Tokens come in reading order; inside a token the feature index is (row·patch + column)·channels + channel.
    """
    batch, channels, height, width = canvas.shape
    grid = canvas.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def picture_of(patches: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    """The inverse of `patches_of` for a grid of ``rows`` × ``columns`` tokens."""
    batch = patches.shape[0]
    grid = patches.reshape(batch, rows, columns, patch, patch, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, rows * patch, columns * patch)


def left_first(rows: int, columns: int, left: int) -> Tensor:
    """Reading-order indices of a grid's tokens: those of the first ``left`` columns, then the others."""
    index = torch.arange(rows * columns).view(rows, columns)
    return torch.cat((index[:, :left].flatten(), index[:, left:].flatten()))
