"""What a request can be, as a program sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

STEP = re.compile(r"step (\d+) of (\d+)")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that the server wrote about a request; ``timestamp`` is in ISO 8601."""

    timestamp: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request that the server has taken. Give it, or its ``request_id``, to ``status``, ``result`` and ``cancel``."""

    request_id: str
    status_url: str
    response_url: str
    cancel_url: str
    source: Image.Image | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits; ``position`` requests come before it."""

    request_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Running:
    """It is being worked on; ``logs`` is everything so far."""

    request_id: str
    logs: tuple[LogLine, ...] = ()

    @property
    def step(self) -> tuple[int, int] | None:
        """Steps that are done, and their number, once the first is."""
        return last_step(self.logs)


@dataclass(frozen=True, slots=True)
class Done:
    """It is over; ``ok`` says whether there is a picture, otherwise ``error`` why not."""

    request_id: str
    ok: bool
    logs: tuple[LogLine, ...] = ()
    error: str | None = None


Status = Queued | Running | Done


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """The picture so far, small."""

    image: Image.Image
    request_id: str
    seed: int
    prompt: str


def last_step(logs: Sequence[LogLine]) -> tuple[int, int] | None:
    """The last line of the form "step n of m"."""
    for line in reversed(logs):
        if found := STEP.fullmatch(line.message):
            return int(found[1]), int(found[2])
    return None


def log_lines(entries: Sequence[Mapping[str, object]] | None) -> tuple[LogLine, ...]:
    """The lines of an answer."""
    return tuple(
        LogLine(str(entry.get("timestamp", "")), str(entry.get("level", "")), str(entry.get("message", "")))
        for entry in entries or ()
    )
