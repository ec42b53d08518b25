"""Drawn scenes of named objects, for edits that concern one of them; the truth is the scene drawn again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from training.edits import COLOURS, PLACES, SHAPES, Edit
from training.families import COLOUR_VALUES
from training.pictures import Pixels, noise_field

CENTRES = {
    "top left": (0.24, 0.24),
    "top right": (0.24, 0.76),
    "bottom left": (0.76, 0.24),
    "bottom right": (0.76, 0.76),
    "center": (0.5, 0.5),
}
OBJECT_COLOURS = tuple(name for name in COLOURS if name not in ("gray", "magenta"))
OVERSAMPLING = 2


@dataclass(frozen=True)
class Thing:
    """One object; row, column and reach (half its size) are fractions of the side."""

    shape: str
    colour: str
    row: float
    column: float
    reach: float


@dataclass(frozen=True)
class Scene:
    """Objects on a ground of one colour, shaded by ``texture`` (size, size)."""

    ground: str
    things: tuple[Thing, ...]
    free_places: tuple[str, ...]
    texture: Pixels


def draw_scene(rng: Generator, size: int) -> Scene:
    """Two to four objects at places of their own, none in the colour of the ground."""
    ground = str(rng.choice(COLOURS))
    order = [str(place) for place in rng.permutation(PLACES)]
    count = int(rng.integers(2, 5))
    things: list[Thing] = []
    for place in order[:count]:
        shape = str(rng.choice(SHAPES))
        colour = str(rng.choice([name for name in OBJECT_COLOURS if name != ground]))
        if any((thing.shape, thing.colour) == (shape, colour) for thing in things):
            continue
        row, column = (centre + rng.uniform(-0.04, 0.04) for centre in CENTRES[place])
        things.append(Thing(shape, colour, row, column, rng.uniform(0.1, 0.17)))
    texture = noise_field(rng, size, 1.6) * rng.uniform(0, 0.04)
    if rng.random() < 0.5:
        ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        texture = texture + (ramp[None] if rng.random() < 0.5 else ramp[:, None]) * rng.uniform(0, 0.3)
    return Scene(ground, tuple(things), tuple(order[count:]), texture.astype(np.float32))


def draw_local_edit(rng: Generator, scene: Scene, family: str) -> tuple[Edit, Scene] | None:
    """An edit of ``scene`` and the scene that it leads to; None where the scene offers nothing for the family."""
    index = int(rng.integers(len(scene.things)))
    thing = scene.things[index]
    taken = {scene.ground, *(other.colour for other in scene.things)}
    free = [name for name in OBJECT_COLOURS if name not in taken]
    alone_in_shape = sum(other.shape == thing.shape for other in scene.things) == 1
    alone_in_colour = sum(other.colour == thing.colour for other in scene.things) == 1
    named_by = rng.random()
    object_colour = None if alone_in_shape and named_by < 0.4 else thing.colour
    object_shape = None if alone_in_colour and named_by > 0.85 and object_colour else thing.shape
    if family == "recolour":
        colour = str(rng.choice(free))
        changed = (*scene.things[:index], replace(thing, colour=colour), *scene.things[index + 1 :])
        edit = Edit(family, colour=colour, object_colour=object_colour, object_shape=object_shape)
        return edit, replace(scene, things=changed)
    if family == "remove":
        rest = scene.things[:index] + scene.things[index + 1 :]
        return Edit(family, object_colour=object_colour, object_shape=object_shape), replace(scene, things=rest)
    if family == "background":
        colour = str(rng.choice(free))
        return Edit(family, colour=colour), replace(scene, ground=colour)
    if not scene.free_places:
        return None
    place, shape, colour = str(rng.choice(scene.free_places)), str(rng.choice(SHAPES)), str(rng.choice(free))
    added = Thing(shape, colour, *CENTRES[place], 0.135)
    edit = Edit(family, colour=colour, added_shape=shape, place=place)
    return edit, replace(scene, things=(*scene.things, added))


def render(scene: Scene, size: int) -> Pixels:
    """Draw a scene, edges smoothed."""
    ground = np.array(COLOUR_VALUES[scene.ground], np.float32) / 255
    pixels = np.clip(ground * 0.9 + 0.05 + scene.texture[..., None], 0, 1)
    image = Image.fromarray((pixels * 255).astype(np.uint8)).resize((size * OVERSAMPLING,) * 2)
    canvas = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw(canvas, thing, size * OVERSAMPLING)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _draw(canvas: ImageDraw.ImageDraw, thing: Thing, side: int) -> None:
    y, x, reach, fill = thing.row * side, thing.column * side, thing.reach * side, COLOUR_VALUES[thing.colour]
    if thing.shape == "circle":
        canvas.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)
    elif thing.shape == "square":
        canvas.rectangle((x - 0.88 * reach, y - 0.88 * reach, x + 0.88 * reach, y + 0.88 * reach), fill=fill)
    else:
        canvas.polygon([(x + dx * reach, y + dy * reach) for dx, dy in _outline(thing.shape)], fill=fill)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners as (x, y) in −1…1, y down."""
    if shape == "triangle":
        return [(0, -1), (-1, 0.8), (1, 0.8)]
    if shape == "diamond":
        return [(0, -1), (-0.7, 0), (0, 1), (0.7, 0)]
    if shape == "star":
        turns = np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2, 0.42, 1.0)
        return [(float(r * np.sin(t)), float(-r * np.cos(t))) for r, t in zip(reach, turns, strict=True)]
    turns = np.linspace(0, 2 * np.pi, 40)
    x = np.sin(turns) ** 3
    y = -(13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)) / 17
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
