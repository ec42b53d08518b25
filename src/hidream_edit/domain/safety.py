"""Whether pictures may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hidream_edit.domain.picture import Picture

UNCHECKED = "unchecked"
DEFAULT_CHECKER = "Falconsai/nsfw_image_detection"  # Apache-2.0


class SafetyChecker(Protocol):
    """A classifier of pictures."""

    name: str

    def flagged(self, pictures: Sequence[Picture]) -> list[bool]:
        """For each picture, whether it must not be shown."""


def blackened(picture: Picture) -> Picture:
    """What is shown instead: black, of the same size."""
    return Picture(picture.width, picture.height, bytes(len(picture.rgb)))
