"""Rotary position embedding of three axes, interleaved pairs (model.md 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

THETA = 10000.0


class Rotation(NamedTuple):
    """Cosine and sine per token and pair of channels, both float32 (tokens, head channels / 2)."""

    cos: Tensor
    sin: Tensor


def rotation_of_ids(ids: Tensor, axes_dims: tuple[int, ...]) -> Rotation:
    """Angles of position ids (tokens, axes), computed in float64 on the CPU and rounded once to float32.

    Doing it on the CPU spares devices without float64, and gives every device the same table.
    """
    position = ids.to("cpu", torch.float64)
    angles = []
    for axis, dim in enumerate(axes_dims):
        frequency = 1.0 / (THETA ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
        angles.append(position[:, axis, None] * frequency)
    angle = torch.cat(angles, dim=-1)
    return Rotation(angle.cos().float(), angle.sin().float())


def canvas_ids(rows: int, columns: int, *, others: int) -> Tensor:
    """Position ids (rows·columns + others, 3) of a canvas in reading order, then ``others`` tokens at the origin."""
    ids = torch.zeros(rows * columns + others, 3)
    ids[: rows * columns, 1] = torch.arange(rows).repeat_interleave(columns)
    ids[: rows * columns, 2] = torch.arange(columns).repeat(rows)
    return ids


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Rotate (batch, tokens, heads, channels): (x0, x1) → (cos·x0 − sin·x1, sin·x0 + cos·x1) in float32."""
    pairs = heads.float().view(*heads.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    cos, sin = rotation.cos[:, None], rotation.sin[:, None]
    rotated = torch.stack((cos * even - sin * odd, sin * even + cos * odd), dim=-1)
    return rotated.flatten(-2).to(heads.dtype)
