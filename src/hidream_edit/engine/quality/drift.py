"""How far a velocity has moved since it was computed, as far as the last two that were computed can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

POINTS = 2


class Point(NamedTuple):
    """A velocity that was computed, and the noise level that it belongs to."""

    sigma: float
    velocity: Tensor


def drift(past: Sequence[Point], sigma: float) -> float:
    """Expected mean change from the newest point to ``sigma``, relative to its mean size; in float32.

    The straighter the way from noise to picture, the less a velocity changes along it. The rate between the last two
    points is taken to go on.
    """
    newest, before = (point.velocity.float() for point in past)
    size = float(newest.abs().mean())
    if size == 0:
        return float("inf")  # a change from nothing has no relative size
    rate = float((newest - before).abs().mean()) / size / abs(past[0].sigma - past[1].sigma)
    return rate * abs(sigma - past[0].sigma)


def remembered(past: Sequence[Point], point: Point) -> tuple[Point, ...]:
    """What the drift is told from, newest first."""
    return (point, *past)[:POINTS]
