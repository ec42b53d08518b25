"""Waiting for changes: by looking at one number now and then, and at once when somebody gives a hint.

Hints carry nothing and may be lost; looking alone must suffice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

LOOK_SECONDS = 0.25  # between two looks while no hint comes


class Hints(Protocol):
    """How writers wake those who wait, whatever process they are in."""

    def give(self) -> None:
        """Something changed; called after the commit."""

    def pause(self, seconds: float) -> None:
        """Sleep, but not on a hint that came since this thread's last pause."""

    def close(self) -> None:
        """Release what is open."""


def waited(look: Callable[[], int], revision: int, *, seconds_max: float, pause: Callable[[float], None]) -> int:
    """Look until the number is larger than ``revision`` or the time is over; returns it."""
    until = time.monotonic() + seconds_max
    while (current := look()) <= revision and (left := until - time.monotonic()) > 0:
        pause(min(LOOK_SECONDS, left))
    return current
