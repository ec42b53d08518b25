"""One edit as asked for, the limits of its fields, and what is made of fields that were left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from hidream_edit.domain.errors import InputInvalid
from hidream_edit.domain.quality import Quality, quality_named

# Random seeds stay below 2**53, which JavaScript clients can hold exactly; given seeds may use all 64 bits.
RANDOM_SEED_END = 2**53
SEED_END = 2**64


class Fit(StrEnum):
    """How a source of any shape meets the square that the model works on."""

    SQUEEZE = "squeeze"  # resized to the square regardless of its aspect ratio, as the published scripts do
    PAD = "pad"  # aspect ratio kept: the square is filled up at the edges and cut off again afterwards
    NATIVE = "native"  # not resized, only floored to multiples of the patch; the model was not trained for it


@dataclass(frozen=True, slots=True)
class Bounds:
    """Smallest and largest value of a number field, both allowed."""

    ge: float
    le: float


# api.md 10.1: the published bounds of the sibling endpoint, names as on the wire.
BOUNDS: dict[str, Bounds] = {
    "num_inference_steps": Bounds(1, 50),
    "seed": Bounds(0, SEED_END - 1),
    "guidance_scale": Bounds(0, 20),
    "image_guidance_scale": Bounds(0, 20),
    "num_images": Bounds(1, 4),
    "refine_strength": Bounds(0, 1),
}


@dataclass(frozen=True, slots=True)
class EditDefaults:
    """Values for fields that a request leaves out; every model folder may bring its own."""

    negative_prompt: str = "low resolution, blur"
    num_inference_steps: int = 50
    guidance_scale: float = 3.5
    image_guidance_scale: float = 2.0
    num_images: int = 1
    refine_strength: float = 0.0
    normed_guidance: bool = True
    fit: Fit = Fit.SQUEEZE
    detail: bool = False
    quality: Quality = Quality.EXACT
    # Where steps are left out and guidance is above 1, at least this many steps per unit of it: a model on which a
    # strong pull in few steps overshoots. 0: guidance changes no default.
    steps_per_guidance: float = 0.0

    def steps_wanted(self, guidance_scale: float) -> int:
        """Steps below which this much guidance may overshoot."""
        wanted = math.ceil(self.steps_per_guidance * guidance_scale) if guidance_scale > 1 else 0
        return max(self.num_inference_steps, wanted)


@dataclass(frozen=True, slots=True)
class EditInput:
    """One request. ``None`` means left out: the loaded model's default applies."""

    edit_instruction: str | None = None
    target_image_description: str | None = None
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    seed: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    num_images: int | None = None
    refine_strength: float | None = None
    normed_guidance: bool | None = None
    fit: Fit | None = None
    detail: bool | None = None
    quality: Quality | None = None

    def settled(self, defaults: EditDefaults, *, random_seed: Callable[[], int]) -> EditSettings:
        """Fill what was left out, check every bound. ``random_seed`` is called only when no seed was given.

        Raises:
            InputInvalid: a number lies outside its bounds, or there is no such quality.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        chosen = asdict(defaults) | given
        del chosen["steps_per_guidance"]
        chosen["quality"] = quality_named(chosen["quality"])
        chosen.setdefault("edit_instruction", "")
        chosen.setdefault("target_image_description", "")
        if "seed" not in given:
            chosen["seed"] = random_seed()
        for name, bounds in BOUNDS.items():
            check_bounds(name, chosen[name], bounds)
        if "num_inference_steps" not in given:
            wanted = defaults.steps_wanted(chosen["guidance_scale"])
            chosen["num_inference_steps"] = min(wanted, int(BOUNDS["num_inference_steps"].le))
        return EditSettings(**chosen)


@dataclass(frozen=True, slots=True)
class EditSettings:
    """One edit with nothing left open: the same settings and source give the same bytes."""

    edit_instruction: str
    target_image_description: str
    negative_prompt: str
    num_inference_steps: int
    seed: int
    guidance_scale: float
    image_guidance_scale: float
    num_images: int
    refine_strength: float
    normed_guidance: bool
    fit: Fit
    detail: bool
    quality: Quality = Quality.EXACT  # what was stored before there was a choice was exact

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EditSettings:
        """The settings that `as_json` wrote.

        Raises:
            ValueError: a field is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        given = {"quality": Quality.EXACT.value} | value
        if given.keys() != names:
            raise ValueError(f"settings differ in the fields {sorted(names ^ given.keys())}")
        return replace(cls(**given), fit=Fit(given["fit"]), quality=Quality(given["quality"]))

    def seed_of_image(self, image_index: int) -> int:
        """Image k of a request is the single image of seed + k, wrapping around at 64 bits."""
        return (self.seed + image_index) % SEED_END


def check_bounds(name: str, value: float, bounds: Bounds) -> None:
    """Raise `InputInvalid` in the documented words unless ``value`` is finite and inside ``bounds``."""
    if not math.isfinite(value):
        raise InputInvalid(f"{name} should be a finite number", field=name, kind="finite_number")
    if value < bounds.ge:
        limit = f"{bounds.ge:g}"
        message = f"{name} should be greater than or equal to {limit}, not {value}"
        raise InputInvalid(message, field=name, kind="greater_than_equal", context={"ge": bounds.ge})
    if value > bounds.le:
        message = f"{name} should be less than or equal to {bounds.le:.0f}, not {value}"
        raise InputInvalid(message, field=name, kind="less_than_equal", context={"le": bounds.le})
