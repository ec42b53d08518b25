"""What is counted about jobs, in the transaction that ends them: totals that outlive every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hidream_edit.domain.job import Job, JobState

ALL = "+Inf"  # the bound of what is larger than every other, as Prometheus spells it


@dataclass(frozen=True, slots=True)
class Measure:
    """A counter where it has no bounds, else a histogram; ``label`` names what divides it."""

    name: str
    label: str = ""
    bounds: tuple[float, ...] = ()


class Observation(NamedTuple):
    """``number`` values that fell below ``bound`` and above the next smaller one, and their sum."""

    name: str
    label: str
    bound: str
    number: int
    total: float


_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
JOBS_ENDED = Measure("jobs_ended", "state")
WEBHOOK_FAILURES = Measure("webhook_failures", "outcome")
QUEUE_SECONDS = Measure("queue_seconds", "", (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0))
EDIT_SECONDS = Measure("edit_seconds", "steps", (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0))
STEPS_PER_SECOND = Measure("steps_per_second", "", (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0))
PREVIEW_SECONDS = Measure("preview_seconds", "", _SHORT)
ENCODE_SECONDS = Measure("encode_seconds", "", _SHORT)
MEASURES = (
    JOBS_ENDED, WEBHOOK_FAILURES, QUEUE_SECONDS, EDIT_SECONDS, STEPS_PER_SECOND, PREVIEW_SECONDS, ENCODE_SECONDS,
)  # fmt: skip

TRIED_AGAIN, GIVEN_UP = "tried_again", "given_up"
_STEP_GROUPS = (8, 16, 28, 50)  # each number of steps as a label of its own would be two hundred series


def observed(measure: Measure, value: float = 1.0, label: str = "") -> Observation:
    """One value of ``measure``."""
    bound = next((f"{bound:g}" for bound in measure.bounds if value <= bound), ALL)
    return Observation(measure.name, label, bound, 1, float(value))


def step_group(steps: int) -> str:
    """The label of an edit of so many steps, all its images together."""
    low = 1
    for high in _STEP_GROUPS:
        if steps <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"{low}+"


def of_end(job: Job, state: JobState) -> list[Observation]:
    """What the end of ``job`` adds; how long it waited counts for those that ran."""
    ended = [observed(JOBS_ENDED, label=state.value)]
    if job.started_at is not None:
        ended.append(observed(QUEUE_SECONDS, max(job.started_at - job.queued_at, 0.0)))
    return ended


def added(observations: list[Observation]) -> list[Observation]:
    """The same with one entry for each name, label and bound."""
    sums: dict[tuple[str, str, str], tuple[int, float]] = {}
    for name, label, bound, number, total in observations:
        before = sums.get((name, label, bound), (0, 0.0))
        sums[name, label, bound] = before[0] + number, before[1] + total
    return [Observation(*key, *value) for key, value in sorted(sums.items())]


class Census(NamedTuple):
    """How many jobs are where, right now."""

    waiting: dict[int, int]  # by priority
    running: int
    oldest_queued_at: float | None  # of those that wait, Unix seconds
