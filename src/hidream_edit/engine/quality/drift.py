"""How far a tensor has moved since it was computed, as far as the last two that were computed can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

POINTS = 2


class Point(NamedTuple):
    """A tensor that was computed, and the noise level that it belongs to."""

    sigma: float
    value: Tensor


def mean_size(value: Tensor) -> float:
    """Mean of the absolute values, in float32."""
    return float(value.float().abs().mean())


def drift(past: Sequence[Point], sigma: float) -> float:
    """Expected mean change from the newest point to ``sigma``: the rate between the last two is taken to go on.

    The straighter the way from noise to picture, the less a velocity changes along it.
    """
    newest, before = past
    rate = mean_size(newest.value.float() - before.value.float()) / abs(newest.sigma - before.sigma)
    return rate * abs(sigma - newest.sigma)


def remembered(past: Sequence[Point], point: Point) -> tuple[Point, ...]:
    """What the drift is told from, newest first."""
    return (point, *past)[:POINTS]
