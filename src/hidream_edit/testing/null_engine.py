"""An engine without weights: it inverts the source, at once or as slowly as a test wants it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from hidream_edit.domain.edit import EditDefaults, EditInput
from hidream_edit.domain.edit_request import EditDone, EditStarted, ImageMade, Progress, StepDone
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality, Traded

PREVIEW_SIDE = 8


class NullEngine:
    """See `EditEngine`. An instruction of "fail" raises, as a broken engine would; "crash" ends the process."""

    name, device = "null", "nothing"
    examples: tuple[str, ...] = ("invert the colours",)

    def __init__(self, *, seconds_per_step: float = 0.0, steps: int = 3, quality: Quality = Quality.EXACT) -> None:
        self._seconds_per_step = seconds_per_step
        self._defaults = EditDefaults(num_inference_steps=steps, quality=quality)
        self.defaults: Mapping[str, Any] = asdict(self._defaults)

    def memory_bytes(self) -> int:
        return 0

    def edit(self, source: Picture, edit_input: EditInput) -> Iterator[Progress]:
        settings = edit_input.settled(self._defaults, random_seed=lambda: 7)
        total = settings.num_inference_steps * settings.num_images
        yield EditStarted(settings, settings.edit_instruction, (), total)
        for step in range(total):
            if self._seconds_per_step:
                time.sleep(self._seconds_per_step)
            if settings.edit_instruction == "fail":
                raise RuntimeError("the null engine was asked to fail")
            if settings.edit_instruction == "crash":
                raise SystemExit(9)
            yield StepDone(step + 1, total, lambda: Picture(1, 1, source.rgb[:3]))
            if (step + 1) % settings.num_inference_steps == 0:
                yield ImageMade(lambda: _inverted(source))
        is_exact = settings.quality is Quality.EXACT
        yield EditDone(None if is_exact else Traded(settings.quality, total, total, total, total))


def _inverted(source: Picture) -> Picture:
    inverted = bytes(255 - value for value in source.rgb) if len(source.rgb) < 1_000_000 else source.rgb
    return Picture(*source.size, inverted, source.alpha)
