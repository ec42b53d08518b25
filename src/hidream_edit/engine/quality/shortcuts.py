"""A step's velocity, computed in full or put together from what earlier steps computed.

**Steps.** A velocity that has hardly changed is used again, and its step is not computed at all. First-block and
TeaCache methods run a part of the network to learn whether the rest would change; here the last two velocities that
were computed say it. They are the guided ones that the solver reads, so all branches are judged together, and a step
that is left out costs nothing.

**Branches.** Guidance adds to the fully conditioned velocity a pull that changes slowly. In steps between, that branch
runs alone, and the pull is the one of the last step that ran them all, unless that has changed too much as well.

What is remembered is a value and belongs to the edit: it is set aside and taken up with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hidream_edit.engine.quality.drift import POINTS, Point, drift, mean_size, remembered
from hidream_edit.engine.quality.presets import Trades
from hidream_edit.engine.schedule import Schedule
from hidream_edit.engine.stages import Batch, Stage

LENGTH = 1 / 28  # of the way from noise to picture: the mean of an edit of 28 steps


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What an edit that need not be exact remembers; tensors have the shape and dtype of the latents."""

    velocities: tuple[Point, ...] = ()  # guided, of the last steps that were computed, newest first
    pulls: tuple[Point, ...] = ()  # guided − fully conditioned, of the last steps that ran all branches, newest first
    held_in_a_row: int = 0
    unguided_in_a_row: int = 0
    # Over all images:
    steps_computed: int = 0
    branches: int = 0  # that an exact edit would have run
    branches_computed: int = 0

    def fresh(self) -> Shortcuts:
        """For another image or stage: the counts alone are kept."""
        return Shortcuts(
            steps_computed=self.steps_computed, branches=self.branches, branches_computed=self.branches_computed
        )

    def counted(self, branches: int) -> Shortcuts:
        """After a step that computed everything, of which nothing is remembered."""
        return replace(
            self,
            steps_computed=self.steps_computed + 1,
            branches=self.branches + branches,
            branches_computed=self.branches_computed + branches,
        )

    def to(self, device: torch.device) -> Shortcuts:
        """The same with its tensors on ``device``."""
        velocities, pulls = (
            tuple(Point(sigma, value.to(device)) for sigma, value in points) for points in (self.velocities, self.pulls)
        )
        return replace(self, velocities=velocities, pulls=pulls)

    def tensors(self) -> dict[str, Tensor]:
        """What `from_saved` needs, by name."""
        both = {"velocity": self.velocities, "pull": self.pulls}
        return {f"{name}.{age}": point.value for name, points in both.items() for age, point in enumerate(points)}

    def facts(self) -> dict[str, Any]:
        """What `from_saved` needs beside the tensors, as JSON."""
        return {
            "sigmas": {
                "velocity": [point.sigma for point in self.velocities],
                "pull": [point.sigma for point in self.pulls],
            },
            "held_in_a_row": self.held_in_a_row,
            "unguided_in_a_row": self.unguided_in_a_row,
            "steps_computed": self.steps_computed,
            "branches": self.branches,
            "branches_computed": self.branches_computed,
        }

    @classmethod
    def from_saved(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Shortcuts:
        """What `facts` and `tensors` said.

        Raises:
            KeyError: something is missing.
        """
        counts = {name: int(value) for name, value in facts.items() if name != "sigmas"}
        velocities, pulls = (
            tuple(Point(float(sigma), tensors[f"{name}.{age}"]) for age, sigma in enumerate(facts["sigmas"][name]))
            for name in ("velocity", "pull")
        )
        return cls(velocities, pulls, **counts)

    def may_hold(self, sigma: float, trades: Trades) -> bool:
        """Whether the last velocity may serve at ``sigma`` too."""
        if self.held_in_a_row >= trades.skips_max or len(self.velocities) < POINTS:
            return False
        change = drift(self.velocities, sigma)
        if self.unguided_in_a_row:  # the last velocities differ by less than they would with a pull of their own
            change += drift(self.pulls, sigma)
        return change < trades.tolerance * mean_size(self.velocities[0].value)

    def may_reuse_pull(self, sigma: float, trades: Trades) -> bool:
        """Whether the last pull of guidance may serve at ``sigma`` too."""
        if self.unguided_in_a_row + 1 >= trades.guided_every or len(self.pulls) < POINTS:
            return False
        return drift(self.pulls, sigma) < trades.tolerance * mean_size(self.velocities[0].value)


def shortened(
    stage: Stage,
    trades: Trades,
    past: Shortcuts,
    latents: Tensor,
    source_latents: Tensor,
    *,
    step: int,
    schedule: Schedule,
) -> tuple[Tensor, Shortcuts]:
    """The guided velocity (1, channels, rows, columns) at ``step``, and what the next step remembers.

    The first two steps of a stage are always computed, since a change needs two; the last one too: whatever it lacks
    goes into the picture.
    """
    sigma, count = schedule.sigmas[step], len(stage.branches)
    trades = weighed(trades, schedule, step)
    past = replace(past, branches=past.branches + count)
    is_last = step == schedule.step_count - 1
    if not is_last and past.may_hold(sigma, trades):
        return past.velocities[0].value, replace(past, held_in_a_row=past.held_in_a_row + 1)
    timestep = schedule.timesteps[step]
    if not is_last and past.may_reuse_pull(sigma, trades):
        (alone,) = conditioned_alone(stage).velocities(latents, source_latents, timestep).values()
        velocity, run = alone + past.pulls[0].value, 1
        past = replace(past, unguided_in_a_row=past.unguided_in_a_row + 1)
    else:
        # The branches by themselves first: the pull is what guidance adds to the last of them.
        each = stage.velocities(latents, source_latents, timestep)
        velocity, run = stage.combine(each), count
        if trades.guided_every > 1 and count > 1:
            pull = velocity - each[stage.branches[-1]]
            past = replace(past, pulls=remembered(past.pulls, Point(sigma, pull)), unguided_in_a_row=0)
    return velocity, replace(
        past,
        velocities=remembered(past.velocities, Point(sigma, velocity)),
        held_in_a_row=0,
        steps_computed=past.steps_computed + 1,
        branches_computed=past.branches_computed + run,
    )


def weighed(trades: Trades, schedule: Schedule, step: int) -> Trades:
    """``trades`` as they are right for the length of a step.

    What a velocity that is used again is off by grows along the step and is added up over its length, so it counts
    with the square of that. Tolerances are given for a step of `LENGTH`; shorter ones get no more.
    """
    if schedule.step_count < trades.steps_min:
        return Trades(float8=trades.float8)
    length = abs(schedule.sigmas[step + 1] - schedule.sigmas[step])
    return replace(trades, tolerance=trades.tolerance * min(1.0, LENGTH / length) ** 2)


def conditioned_alone(stage: Stage) -> Stage:
    """The stage with its last branch, the fully conditioned one, and no guidance."""
    batch = stage.batches[-1]
    if len(batch.branches) > 1:
        last = [len(batch.branches) - 1]
        batch = Batch(batch.branches[-1:], batch.text.rows(last), batch.pooled[last])
    return replace(stage, batches=(batch,))
