"""Rotary position embedding of three axes, interleaved pairs (model.md 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

THETA = 10000.0


class Rotation(NamedTuple):
    """Cosine and sine per token and turned pair of channels, both float32 (tokens, pairs).

    The tokens are the first ones of a sequence and the pairs the last ones of a head: what follows the tokens and what
    precedes the pairs has angle 0 and is left as it is, to the bit.
    """

    cos: Tensor
    sin: Tensor

    def rows(self, index: Tensor) -> Rotation:
        """Only these tokens, in this order."""
        return Rotation(self.cos[index], self.sin[index])

    def to(self, device: torch.device) -> Rotation:
        return Rotation(self.cos.to(device), self.sin.to(device))


def canvas_rotation(rows: int, columns: int, axes_dims: tuple[int, ...]) -> Rotation:
    """The angles of a canvas's tokens in reading order, computed in float64 on the CPU and rounded once to float32.

    Doing it on the CPU spares devices without float64, and gives every device the same table. The first axis is 0 for
    every token, so its channels are not turned and have no angles.
    """
    places = (
        torch.arange(rows, dtype=torch.float64).repeat_interleave(columns),
        torch.arange(columns, dtype=torch.float64).repeat(rows),
    )
    angles = []
    for place, dim in zip(places, axes_dims[1:], strict=True):
        frequency = 1.0 / (THETA ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
        angles.append(place[:, None] * frequency)
    angle = torch.cat(angles, dim=-1)
    return Rotation(angle.cos().float(), angle.sin().float())


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Rotate (batch, tokens, heads, channels): (x0, x1) → (cos·x0 − sin·x1, sin·x0 + cos·x1) in float32."""
    tokens = min(len(rotation.cos), heads.shape[1])
    channels = 2 * rotation.cos.shape[1]
    turned = heads[:, :tokens, :, -channels:]
    pairs = turned.float().view(*turned.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    cos, sin = rotation.cos[:tokens, None], rotation.sin[:tokens, None]
    rotated = torch.stack((cos * even - sin * odd, sin * even + cos * odd), dim=-1).flatten(-2).to(heads.dtype)
    front = torch.cat((heads[:, :tokens, :, :-channels], rotated), dim=-1)
    return torch.cat((front, heads[:, tokens:]), dim=1)


def rotate_own(heads: Tensor, rotation: Rotation) -> Tensor:
    """As `rotate`; where it can, in place, so ``heads`` must be the caller's own.

    A pair of channels is a complex number and its rotation one multiplication, which PyTorch does in one pass over the
    pairs that turn. Gradients and compilers want the long way.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return rotate(heads, rotation)
    tokens = min(len(rotation.cos), heads.shape[1])
    channels = 2 * rotation.cos.shape[1]
    turned = heads[:, :tokens, :, -channels:]
    numbers = turned.float()  # in float32 these are the heads themselves
    pairs = torch.view_as_complex(numbers.view(*turned.shape[:-1], -1, 2))
    pairs *= torch.complex(rotation.cos[:tokens, None], rotation.sin[:tokens, None])
    if numbers is not turned:
        turned.copy_(numbers)
    return heads
