"""What the contestants are asked to do."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class Edit:
    """The settings of one edit; its source, words and noise depend on the round, so that no cache helps unseen."""

    label: str
    side: int  # of the square source, in pixels
    steps: int
    guidance_scale: float
    image_guidance_scale: float
    normed_guidance: bool = True

    @property
    def branches(self) -> int:
        """Evaluations per step in the published way."""
        return 3 if self.guidance_scale > 1 else 1

    def source(self, seed: int) -> Image.Image:
        """Soft blocks of colour."""
        small = Image.frombytes("RGB", (12, 12), random.Random(seed).randbytes(12 * 12 * 3))
        return small.resize((self.side, self.side), Image.Resampling.BICUBIC)


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one round."""

    instruction: str
    negative: str
    seed: int
