"""Attention over image and text tokens together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_edit.engine.model.log_sum_attention import attend_with_log_sum
from hidream_edit.engine.model.products import Linear
from hidream_edit.engine.model.rotation import Rotation, rotate_own

RMS_EPS = 1e-5


class Pad(NamedTuple):
    """The one pad token that stands for many (model.md 6.1). Its key is zero, and so is its logit for every query."""

    place: int  # among the keys
    copies: int  # how many it stands for, itself among them

    @property
    def logit(self) -> float:
        """Of all of them together."""
        return math.log(self.copies)


# Queries (batch, heads, tokens, channels), keys and values (batch, heads, all tokens, channels), and the pad among
# these that counts more than once, or None; gives what the queries read.
Attend = Callable[[Tensor, Tensor, Tensor, Pad | None], Tensor]


def attend(query: Tensor, key: Tensor, value: Tensor, pad: Pad | None = None) -> Tensor:
    """softmax(QKᵀ/√channels)·V over (batch, heads, tokens, channels).

    The pad comes in once with all other keys and its like afterwards: a bias would say the same, but PyTorch's flash
    kernel takes none.
    """
    if pad is None or pad.copies == 1:
        return F.scaled_dot_product_attention(query, key, value)
    read, log_sum = attend_with_log_sum(query, key, value)
    like_it = torch.sigmoid(math.log(pad.copies - 1) - log_sum)[..., None]
    return read.lerp(value[:, :, pad.place : pad.place + 1], like_it.to(read.dtype))


class Attention(nn.Module):
    """Multi-head attention whose queries and keys are normed over the full width, before the split into heads.

    With ``with_text`` the text has projections and norms of its own (double-stream blocks); without, every token
    goes through the same ones.
    """

    to_out: Linear
    to_out_t: Linear

    def __init__(self, width: int, heads: int, *, with_text: bool) -> None:
        super().__init__()
        self.heads = heads
        for suffix in ("", "_t") if with_text else ("",):
            for name in ("to_q", "to_k", "to_v", "to_out"):
                setattr(self, name + suffix, Linear(width, width))
            for name in ("q_rms_norm", "k_rms_norm"):
                setattr(self, name + suffix, nn.RMSNorm(width, RMS_EPS))

    def project(self, tokens: Tensor, suffix: str = "", *, wanted: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first ``wanted`` tokens, keys and values of all: (batch, tokens, heads, channels)."""

        def layer(name: str) -> nn.Module:
            return self.get_submodule(name + suffix)

        query = layer("to_q")(tokens[:, :wanted])
        return self._normed(query, layer("to_k")(tokens), layer("to_v")(tokens), suffix)

    def _normed(self, query: Tensor, key: Tensor, value: Tensor, suffix: str) -> tuple[Tensor, Tensor, Tensor]:
        query = self.get_submodule("q_rms_norm" + suffix)(query).to(value.dtype)
        key = self.get_submodule("k_rms_norm" + suffix)(key).to(value.dtype)
        query, key, value = (projected.view(*projected.shape[:-1], self.heads, -1) for projected in (query, key, value))
        return query, key, value

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        rotation: Rotation,
        pad: Pad | None,
        by: Attend,
    ) -> Tensor:
        """Rotate the tokens that have a place, attend, and join the heads: (batch, query tokens, width). ``query`` and
        ``key`` are overwritten."""
        query, key = rotate_own(query, rotation), rotate_own(key, rotation)
        mixed = by(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), pad)
        return mixed.transpose(1, 2).flatten(2)


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
