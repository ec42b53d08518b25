"""How much of an exact edit may be traded for time, and what was."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hidream_edit.domain.choices import choice
from hidream_edit.domain.quantization import Quantization


class Quality(StrEnum):
    """What an edit may cost, from the whole computation to the quickest; what each leaves out is the engine's."""

    EXACT = "exact"  # everything is computed
    BALANCED = "balanced"  # hard to tell from exact by eye
    TURBO = "turbo"  # as fast as it gets while the edit is the same


def quality_named(word: str, *, field: str = "quality") -> Quality:
    """The preset by its name.

    Raises:
        InputInvalid: there is none by that name.
    """
    return choice(Quality, word, field=field)


@dataclass(frozen=True, slots=True)
class Traded:
    """What an edit that was not exact did without, or with what weights. Counts are over all its images."""

    quality: Quality
    steps: int
    steps_computed: int  # through the whole transformer
    branches: int  # conditionings that the exact edit runs, over all steps
    branches_computed: int  # through the whole transformer
    float8: bool = False  # whether those were multiplied in float8
    quantization: Quantization = Quantization.NONE  # of the weights

    def as_json(self) -> dict[str, Any]:
        """As the output of a job says it."""
        return {
            "preset": self.quality.value,
            "steps": self.steps,
            "steps_computed": self.steps_computed,
            "branches": self.branches,
            "branches_computed": self.branches_computed,
            "float8": self.float8,
            "quantization": self.quantization.value,
        }

    def in_words(self) -> str:
        """A line for a log."""
        return (
            f"quality {self.quality}: {self.steps_computed} of {self.steps} steps and {self.branches_computed} of "
            f"{self.branches} branches were computed anew{', in float8' if self.float8 else ''}"
            f"{'' if self.quantization is Quantization.NONE else f', with weights in {self.quantization}'}"
        )
