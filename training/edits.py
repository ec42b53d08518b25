"""What an instruction asks for, as a value, and the code that the text encoders learn to say it in.

The pooled text embedding of the mini model is a *code*: one slot per family of edits (CLIP-L half), then slots for
strength, colours, shapes and places (CLIP-G half). The transformer is trained on codes and on real text; the text
encoders are trained to turn words into codes. An instruction outside the vocabulary sets the slot ``KEEP`` alone, and
so does an empty one: the picture comes back as it is. All zeros mean that there are no words at all, as in a negative
prompt: the transformer then carries on what the latents show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS: dict[str, tuple[str, ...]] = {
    "tone": (
        "grayscale", "sepia", "invert", "brighten", "darken", "contrast", "low_contrast", "saturate", "mute",
        "warm", "cool", "tint", "threshold", "solarize", "duotone",
    ),
    "atmosphere": (
        "night", "sunset", "fog", "snow", "rain", "underwater", "autumn", "golden_hour", "vintage", "night_vision",
        "neon",
    ),
    "art": (
        "animated_3d", "cartoon", "ghibli", "comic", "oil", "watercolour", "pencil_sketch", "ink", "edges",
        "posterize", "pixel_art", "emboss", "mosaic",
    ),
    "lens": ("blur", "sharpen", "vignette", "frame", "film_grain"),
    "geometry": ("mirror", "upside_down"),
    "local": ("recolour", "remove", "add", "background"),
}  # fmt: skip
FAMILIES: tuple[str, ...] = tuple(family for families in GROUPS.values() for family in families)

# Families whose instruction may carry "slightly" or "much".
WITH_STRENGTH = frozenset({
    "brighten", "darken", "contrast", "low_contrast", "saturate", "mute", "warm", "cool", "tint", "fog", "blur",
    "sharpen", "vignette", "film_grain",
})  # fmt: skip
WITH_COLOUR = frozenset({"tint", "frame", "recolour", "add", "background"})

COLOURS: tuple[str, ...] = (
    "red", "green", "blue", "yellow", "purple", "orange", "pink", "cyan", "brown", "magenta", "gray", "white", "black",
)  # fmt: skip
TINT_COLOURS = COLOURS[:10]
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "diamond", "heart")
PLACES: tuple[str, ...] = ("top left", "top right", "bottom left", "bottom right", "center")
STRENGTHS: tuple[str, ...] = ("slight", "normal", "much")

CODE_CLIP_L = 64
CODE_CLIP_G = 64
CODE_SIZE = CODE_CLIP_L + CODE_CLIP_G

KEEP = len(FAMILIES)  # slot of "leave it as it is"
_STRENGTH_SLOT = CODE_CLIP_L
_COLOUR_SLOT = _STRENGTH_SLOT + 2
_OBJECT_COLOUR_SLOT = _COLOUR_SLOT + len(COLOURS)
_OBJECT_SHAPE_SLOT = _OBJECT_COLOUR_SLOT + len(COLOURS)
_ADDED_SHAPE_SLOT = _OBJECT_SHAPE_SLOT + len(SHAPES)
_PLACE_SLOT = _ADDED_SHAPE_SLOT + len(SHAPES)
CODE_USED = _PLACE_SLOT + len(PLACES)  # slots behind these have no meaning


@dataclass(frozen=True)
class Edit:
    """One edit of one family; fields that the family does not use stay None."""

    family: str
    strength: str = "normal"
    colour: str | None = None  # of the tint, frame, background, the recoloured or added object
    object_colour: str | None = None  # of the object that recolour or remove names, when it names one
    object_shape: str | None = None
    added_shape: str | None = None
    place: str | None = None


def code(edits: tuple[Edit, ...]) -> NDArray[np.float32]:
    """The code (CODE_SIZE,) of up to two edits made one after the other; of none, that the picture is kept."""
    vector = np.zeros(CODE_SIZE, np.float32)
    if not edits:
        vector[KEEP] = 1
    for edit in edits:
        vector[FAMILIES.index(edit.family)] = 1
        if edit.strength != "normal":
            vector[_STRENGTH_SLOT + (edit.strength == "much")] = 1
        for slot, words, word in (
            (_COLOUR_SLOT, COLOURS, edit.colour),
            (_OBJECT_COLOUR_SLOT, COLOURS, edit.object_colour),
            (_OBJECT_SHAPE_SLOT, SHAPES, edit.object_shape),
            (_ADDED_SHAPE_SLOT, SHAPES, edit.added_shape),
            (_PLACE_SLOT, PLACES, edit.place),
        ):
            if word is not None:
                vector[slot + words.index(word)] = 1
    return vector


def families_in(vector: NDArray[np.float32], *, threshold: float = 0.5) -> tuple[str, ...]:
    """Names of the families that a pooled text embedding asks for."""
    return tuple(name for slot, name in enumerate(FAMILIES) if vector[slot] > threshold)
