"""Pictures ↔ latents, and the noise that an edit starts from (model.md 5 and 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hidream_edit.engine.memory.tiling import in_tiles

TILE_OVERLAP = 4  # a quarter of a tile


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """A frozen autoencoder of diffusers with the scaling of its own config."""

    model: Any  # AutoencoderKL or AutoencoderDC
    scaling: float
    shift: float
    factor: int  # pixels per latent along a side
    tile: int | None = None  # side in latents of the pieces that it works in, where memory is short

    @classmethod
    def of(cls, model: Any, *, tile: int | None = None) -> Autoencoder:
        """Read scaling and shift off the config; a missing shift is none."""
        config = model.config
        if "encoder_block_out_channels" in config:
            factor = int(model.spatial_compression_ratio)
        else:
            factor = 2 ** (len(config.block_out_channels) - 1)
        return cls(model, float(config.scaling_factor), float(config.get("shift_factor") or 0.0), factor, tile)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, H, W) in −1…1 → latents (batch, channels, H/factor, W/factor).

        The mode of the posterior, no sampling: z = (mean − shift)·scaling.
        """
        latents = self._tiled(self._encode, pixels, unit=self.factor, scale=(1, self.factor))
        return (latents - self.shift) * self.scaling

    def decode(self, latents: Tensor) -> Tensor:
        """Latents → pixels (batch, 3, H, W) about −1…1, not clamped."""
        return self._tiled(self._decode, latents / self.scaling + self.shift, unit=1, scale=(self.factor, 1))

    def _encode(self, pixels: Tensor) -> Tensor:
        encoded = self.model.encode(pixels)
        latents: Tensor = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.model.decode(latents).sample
        return pixels

    def _tiled(self, run: Callable[[Tensor], Tensor], whole: Tensor, *, unit: int, scale: tuple[int, int]) -> Tensor:
        if self.tile is None:
            return run(whole)
        return in_tiles(run, whole, tile=self.tile * unit, overlap=self.tile // TILE_OVERLAP * unit, scale=scale)


def pixels_of(rgb: Tensor, dtype: torch.dtype) -> Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) in −1…1."""
    return (rgb.permute(2, 0, 1)[None].float() / 255 * 2 - 1).to(dtype)


def rgb_of(pixels: Tensor) -> Tensor:
    """(1, 3, H, W) about −1…1 → (H, W, 3) uint8."""
    unit = (pixels[0].float() / 2 + 0.5).clamp(0, 1)
    return (unit * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu()


def draw_noise(seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Standard normal noise from a generator of its own, always drawn on the CPU.

    A CUDA generator gives other noise for the same seed, and noise that depends on the size of the draw. From the CPU
    it is the same on every device, and each image of a request draws its own.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)
