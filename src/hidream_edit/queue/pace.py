"""Waiting for changes of a database by looking at one number: no message between processes, so none can be missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

LIVELY_SECONDS = 1.0


class Pace(NamedTuple):
    """Seconds between two looks: soon after a change, and when nothing has happened for a while."""

    lively: float
    idle: float


def waited(look: Callable[[], int], revision: int, *, seconds_max: float, pace: Pace) -> int:
    """Look until the number is larger than ``revision`` or the time is over; returns it.

    The pauses grow from lively to idle over the first second, so that a busy server reacts in milliseconds and an idle
    one costs next to nothing.
    """
    began = time.monotonic()
    while (current := look()) <= revision and (passed := time.monotonic() - began) < seconds_max:
        share = min(1.0, passed / LIVELY_SECONDS)
        time.sleep(min(pace.lively + (pace.idle - pace.lively) * share, seconds_max - passed))
    return current
