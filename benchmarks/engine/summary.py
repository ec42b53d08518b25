"""Numbers of one edit out of the answers of its rounds."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.engine.floor import CEILING_FLOPS
from benchmarks.engine.worker import FLOOR

OFFICIAL = "official"
H200 = "H200"


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of several rounds, and how far they lie apart."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Line:
    """One contestant on one edit."""

    name: str
    title: str
    seconds: Spread
    step_seconds: float
    ratio: Spread | None  # how many times faster than the published way, round by round; None for that way itself
    peak_bytes: int
    peak_bytes_loading: int
    floor_share: float  # of the time of an edit, what its products take on this machine where nothing else is done
    ceiling_share: float | None  # the same, of what the card can do at most
    joules: float | None
    latents: float | None  # relative difference from the published way
    levels: int | None
    within: bool | None  # None: nothing is promised


def lines_of(case: dict[str, Any], edit: dict[str, Any], gpu: str | None) -> list[Line]:
    """All contestants on ``edit``, in their order."""
    rounds = edit["rounds"]
    floor_step = median(sum(answer["seconds"].values()) for answer in rounds[FLOOR])
    flops = sum(rounds[FLOOR][0]["flops"].values())
    official = [answer["seconds"] for answer in rounds[OFFICIAL]]
    made = []
    for name, facts in case["contestants"].items():
        answers = rounds[name]
        seconds = [answer["seconds"] for answer in answers]
        steps = [one for answer in answers for one in answer["step_seconds"]]
        joules = [answer["joules"] for answer in answers if answer["joules"] is not None]
        difference = edit.get("differences", {}).get(name, {})
        whole = Spread.of(seconds)
        has_ceiling = case["device"] == "cuda" and H200 in (gpu or "")
        made.append(
            Line(
                name,
                facts["title"],
                whole,
                median(steps) if steps else whole.middle / edit["steps"],
                None
                if name == OFFICIAL
                else Spread.of([theirs / ours for theirs, ours in zip(official, seconds, strict=True)]),
                max(answer["peak_bytes"] for answer in answers),
                facts["peak_bytes_loading"],
                edit["steps"] * floor_step / whole.middle,
                edit["steps"] * flops / CEILING_FLOPS / whole.middle if has_ceiling else None,
                median(joules) if joules else None,
                difference.get("latents"),
                difference.get("levels"),
                difference.get("within"),
            )
        )
    return made
