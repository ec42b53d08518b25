"""Into the network and out of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hidream_edit.engine.model.blocks import modulated, modulation_layer
from hidream_edit.engine.model.products import Linear

FOURIER_CHANNELS = 256


def fourier(timesteps: Tensor) -> Tensor:
    """(batch,) in 0…1000 → (batch, 256) float32: [cos | sin] of t·exp(−ln(10000)·i/128) (model.md 7)."""
    half = FOURIER_CHANNELS // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angle = timesteps.float()[:, None] * exponent.exp()
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class TwoLayers(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(inputs, width)
        self.linear_2 = Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        hidden: Tensor = self.linear_2(nn.functional.silu(self.linear_1(values)))
        return hidden


class TimestepEmbedder(nn.Module):
    """Noise level → conditioning."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TwoLayers(FOURIER_CHANNELS, width)

    def forward(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        embedded: Tensor = self.timestep_embedder(fourier(timesteps).to(dtype))
        return embedded


class PooledEmbedder(nn.Module):
    """Pooled text → conditioning."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.pooled_embedder = TwoLayers(inputs, width)

    def forward(self, pooled: Tensor) -> Tensor:
        embedded: Tensor = self.pooled_embedder(pooled)
        return embedded


class PatchEmbedder(nn.Module):
    """Patch → token."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.proj = Linear(inputs, width)

    def forward(self, patches: Tensor) -> Tensor:
        tokens: Tensor = self.proj(patches)
        return tokens


class CaptionProjection(nn.Module):
    """Text features → tokens, without a bias."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = Linear(inputs, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        tokens: Tensor = self.linear(features)
        return tokens


class FinalLayer(nn.Module):
    """Tokens → patches."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.adaLN_modulation = modulation_layer(width, 2)
        self.linear = Linear(width, outputs)

    def forward(self, tokens: Tensor, conditioning: Tensor, modulation: Tensor | None = None) -> Tensor:
        modulation = self.adaLN_modulation(conditioning) if modulation is None else modulation
        shift, scale = modulation[:, None].chunk(2, dim=-1)
        patches: Tensor = self.linear(modulated(tokens, shift, scale))
        return patches
