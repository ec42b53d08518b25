"""Attention over image and text tokens together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_edit.engine.model.rotation import Rotation, rotate

RMS_EPS = 1e-5


class Attention(nn.Module):
    """Multi-head attention whose queries and keys are normed over the full width, before the split into heads.

    With ``with_text`` the text has projections and norms of its own (double-stream blocks); without, every token
    goes through the same ones.
    """

    to_out: nn.Linear
    to_out_t: nn.Linear

    def __init__(self, width: int, heads: int, *, with_text: bool) -> None:
        super().__init__()
        self.heads = heads
        for suffix in ("", "_t") if with_text else ("",):
            for name in ("to_q", "to_k", "to_v", "to_out"):
                setattr(self, name + suffix, nn.Linear(width, width))
            for name in ("q_rms_norm", "k_rms_norm"):
                setattr(self, name + suffix, nn.RMSNorm(width, RMS_EPS))

    def project(self, tokens: Tensor, suffix: str = "") -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, tokens, heads, channels), not yet rotated."""

        def layer(name: str) -> nn.Module:
            return self.get_submodule(name + suffix)

        query = layer("q_rms_norm")(layer("to_q")(tokens)).to(tokens.dtype)
        key = layer("k_rms_norm")(layer("to_k")(tokens)).to(tokens.dtype)
        value = layer("to_v")(tokens)
        query, key, value = (projected.unflatten(-1, (self.heads, -1)) for projected in (query, key, value))
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation) -> Tensor:
        """Rotate, attend without a mask, and join the heads: (batch, tokens, width)."""
        query, key = rotate(query, rotation), rotate(key, rotation)
        mixed = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return mixed.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(QKᵀ/√channels)·V over (batch, heads, tokens, channels)."""
    return F.scaled_dot_product_attention(query, key, value)


def without_pads(key: Tensor, pad_range: tuple[int, int] | None) -> Tensor:
    """Zero the keys of pad tokens; their values stay, as upstream (model.md 6.1)."""
    if pad_range is None:
        return key
    start, end = pad_range
    key = key.clone()
    key[:, start:end] = 0
    return key


def joined(image: Tensor, text: Tensor) -> Tensor:
    """Image tokens, then text tokens."""
    return torch.cat((image, text), dim=1)
