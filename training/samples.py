"""Training samples: a source, the edits asked for, and the picture they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from training.edits import COLOURS, FAMILIES, GROUPS, TINT_COLOURS, WITH_STRENGTH, Edit
from training.families import TRUTHS, apply
from training.pictures import Pixels, draw_source
from training.scenes import draw_local_edit, draw_scene, render

NOTHING_SHARE, TWO_EDITS_SHARE, LOCAL_SHARE = 0.06, 0.2, 0.09
# Practice goes where it helps: to what draws anew, not to what a first hour left unlearned or made as good as true.
WEIGHTS = {
    **dict.fromkeys(("solarize", "neon", "edges", "emboss", "posterize", "ink", "frame"), 2.2),
    **dict.fromkeys(("pencil_sketch", "comic", "cartoon", "sunset"), 1.6),
    **dict.fromkeys(("vignette", "tint"), 1.3),
    **dict.fromkeys(("mirror", "upside_down", "film_grain"), 0.4),
}


@dataclass(frozen=True)
class Sample:
    """Float pixels (size, size, 3) in 0…1."""

    source: Pixels
    target: Pixels
    edits: tuple[Edit, ...]


def draw_edit(rng: Generator, family: str) -> Edit:
    """An edit of ``family`` with a random strength and colour."""
    strength = str(rng.choice(["slight", "normal", "normal", "much"])) if family in WITH_STRENGTH else "normal"
    colour = None
    if family == "tint":
        colour = str(rng.choice(TINT_COLOURS))
    elif family == "frame":
        colour = str(rng.choice(COLOURS))
    return Edit(family, strength, colour)


def draw_edits(rng: Generator) -> tuple[Edit, ...]:
    """What one instruction asks for: nothing, one global edit, or two of them in the order of FAMILIES."""
    chance = rng.random()
    if chance < NOTHING_SHARE:
        return ()
    weights = np.array([WEIGHTS.get(family, 1.0) for family in TRUTHS])
    count = 2 if chance < NOTHING_SHARE + TWO_EDITS_SHARE else 1
    chosen = rng.choice(list(TRUTHS), count, replace=False, p=weights / weights.sum())
    edits = [draw_edit(rng, str(family)) for family in chosen]
    if count == 2 and sum(edit.strength != "normal" or edit.colour is not None for edit in edits) > 1:
        edits = edits[:1]  # one code has one place for a strength and one for a colour
    return tuple(sorted(edits, key=lambda edit: FAMILIES.index(edit.family)))


def draw_local(rng: Generator, size: int, family: str | None = None) -> Sample:
    """An edit of one object in a drawn scene."""
    while True:
        scene = draw_scene(rng, size)
        edited = draw_local_edit(rng, scene, family or str(rng.choice(GROUPS["local"])))
        if edited is not None:
            edit, after = edited
            return Sample(render(scene, size), render(after, size), (edit,))


def endless(rng: Generator, size: int, *, edits_per_source: int = 3) -> Iterator[Sample]:
    """Samples without end; a source is used for a few edits, since drawing it costs most."""
    while True:
        if rng.random() < LOCAL_SHARE:
            yield draw_local(rng, size)
            continue
        source = draw_source(rng, size)
        for _ in range(edits_per_source):
            edits = draw_edits(rng)
            yield Sample(source, apply(edits, source), edits)
