"""Who computes the edits: the published way, and our engine in each of its presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
from benchmarks.engine.clock import Clock
from benchmarks.engine.edits import Edit, Words
from benchmarks.engine.models import Model
from benchmarks.plain_pipeline import PlainPipeline
from torch import Tensor

from hidream_edit.domain.edit import EditInput, Fit
from hidream_edit.domain.quality import Quality
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.prompts import compose_prompt
from hidream_edit.engine.state import EditState
from hidream_edit.pictures.convert import picture_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """One edit: how long it took, and what came out."""

    seconds: float
    step_seconds: tuple[float, ...]  # of steps that did nothing but denoise
    latents: Tensor
    pixels: Tensor  # (height, width, 3) uint8


class Loaded(Protocol):
    """A contestant with its weights in place."""

    def edit(self, edit: Edit, words: Words) -> Outcome:
        """The whole way: text, source into latents, all steps, latents into a picture."""

    def step(self, edit: Edit, words: Words) -> float:
        """Seconds of one denoising step alone."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way of computing edits."""

    name: str
    title: str
    load: Callable[[Model, torch.device, torch.dtype, Clock], Loaded]
    is_exact: bool  # whether its results must be those of the published way


class Official:
    """The published way, on the library's own class."""

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype, clock: Clock) -> None:
        self._clock = clock
        self._pipeline: PlainPipeline = model.plain(device, dtype)

    def edit(self, edit: Edit, words: Words) -> Outcome:
        began = self._clock()
        marks, latents, decoded = self._run(edit, words, edit.steps)
        pixels = ((decoded[0].float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu()
        return Outcome(self._clock() - began, _between(marks), latents.cpu(), pixels.contiguous())

    def step(self, edit: Edit, words: Words) -> float:
        marks, *_ = self._run(edit, words, 1)
        return marks[1] - marks[0]

    def _run(self, edit: Edit, words: Words, steps: int) -> tuple[list[float], Tensor, Tensor]:
        marks: list[float] = []

        def mark(_: int) -> None:
            marks.append(self._clock())

        made = self._pipeline.edit(
            edit.source(words.seed),
            prompt=compose_prompt(words.instruction, ""),
            negative=words.negative,
            steps=steps,
            guidance_scale=edit.guidance_scale,
            image_guidance_scale=edit.image_guidance_scale,
            normed=edit.normed_guidance,
            seed=words.seed,
            on_step=mark,
        )
        return marks, made.latents, made.pixels


@dataclass(frozen=True, slots=True)
class Preset:
    """How a preset of our engine is asked for, at loading or by the request."""

    when_loaded: Mapping[str, Any] = field(default_factory=dict)
    in_request: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, model: Model, device: torch.device, dtype: torch.dtype, clock: Clock) -> Loaded:
        return Ours(model.engine(device, dtype, **self.when_loaded), clock, self.in_request)


class Ours:
    """Our engine."""

    def __init__(self, engine: Engine, clock: Clock, in_request: Mapping[str, Any]) -> None:
        self._engine, self._clock, self._in_request = engine, clock, in_request

    def edit(self, edit: Edit, words: Words) -> Outcome:
        began = self._clock()
        state = self._begun(edit, words, edit.steps)
        marks: list[float] = []
        while not state.is_done:
            state = self._engine.advance(state)
            marks.append(self._clock())
        (picture,) = self._engine.finish(state).pictures
        seconds = self._clock() - began
        pixels = torch.frombuffer(bytearray(picture.rgb), dtype=torch.uint8).view(picture.height, picture.width, 3)
        # The first step also reads texts and the last one decodes.
        return Outcome(seconds, _between(marks[:-1]), state.solver.latents.cpu(), pixels)

    def step(self, edit: Edit, words: Words) -> float:
        state = self._begun(edit, words, 2)
        self._engine.advance(state)  # reads the texts, which the second time are known
        began = self._clock()
        self._engine.advance(state)
        return self._clock() - began

    def _begun(self, edit: Edit, words: Words, steps: int) -> EditState:
        settings = self._engine.settle(
            EditInput(
                edit_instruction=words.instruction,
                negative_prompt=words.negative,
                num_inference_steps=steps,
                seed=words.seed,
                guidance_scale=edit.guidance_scale,
                image_guidance_scale=edit.image_guidance_scale,
                normed_guidance=edit.normed_guidance,
                refine_strength=0.0,
                fit=Fit.NATIVE,
                detail=False,
                **self._in_request,
            )
        )
        return self._engine.begin(picture_of(edit.source(words.seed)), settings)


def _between(marks: list[float]) -> tuple[float, ...]:
    return tuple(after - before for before, after in pairwise(marks))


# The first one is what the others are compared with.
CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("official", "the official method", Official, is_exact=True),
    Contestant("exact", "ours, exact", Preset(), is_exact=True),
    Contestant("balanced", "ours, balanced", Preset(in_request={"quality": Quality.BALANCED}), is_exact=False),
    Contestant("turbo", "ours, turbo", Preset(in_request={"quality": Quality.TURBO}), is_exact=False),
)
