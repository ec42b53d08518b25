"""One denoising step: the edit stage on the double canvas, the refine stage on the picture alone (model.md 8, 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hidream_edit.domain.edit import EditSettings
from hidream_edit.engine.devices import exact_inference
from hidream_edit.engine.guidance import (
    Branch,
    Guidance,
    Words,
    edit_branches,
    guide_branches,
    guide_refinement,
    refine_branches,
)
from hidream_edit.engine.memory.activations import STAGES_KEPT
from hidream_edit.engine.model.denoiser import Denoiser, Denoisers
from hidream_edit.engine.model.transformer import ForwardInputs, Modulations, TextTokens
from hidream_edit.engine.prompt_reader import PromptReader
from hidream_edit.engine.prompts import Prompts
from hidream_edit.engine.recent import Recent
from hidream_edit.engine.text_encoders import PromptEmbeddings

Combine = Callable[[Mapping[Branch, Tensor]], Tensor]


class Batch(NamedTuple):
    """Branches that go through the transformer together."""

    branches: tuple[Branch, ...]
    text: TextTokens  # one row per branch
    pooled: Tensor  # (branches, width)
    modulations: Mapping[float, Modulations] | None = None  # by model time, where they were made ahead


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of a run in which the same transformer, branches and text apply."""

    transformer: Denoiser
    batches: tuple[Batch, ...]
    on_double_canvas: bool
    combine: Combine  # velocity (1, …) by branch → velocity (1, …)

    @property
    def branches(self) -> tuple[Branch, ...]:
        return tuple(branch for batch in self.batches for branch in batch.branches)

    def velocity(self, latents: Tensor, source_latents: Tensor, timestep: float) -> Tensor:
        """noise − picture at ``timestep``, as guided; latents (1, channels, rows, columns)."""
        return self.combine(self.velocities(latents, source_latents, timestep))

    def velocities(self, latents: Tensor, source_latents: Tensor, timestep: float) -> dict[Branch, Tensor]:
        """What each branch came to."""
        velocities: dict[Branch, Tensor] = {}
        for batch in self.batches:
            canvas = self._canvas(batch.branches, latents, source_latents)
            timesteps = torch.full((len(batch.branches),), timestep, device=latents.device)
            modulations = None if batch.modulations is None else batch.modulations[timestep]
            inputs = ForwardInputs(canvas, timesteps, batch.text, batch.pooled, latents.shape[-1], modulations)
            output = self.transformer(inputs)
            velocities |= zip(batch.branches, (-output).tensor_split(len(batch.branches)), strict=True)
        return velocities

    def _canvas(self, branches: tuple[Branch, ...], latents: Tensor, source_latents: Tensor) -> Tensor:
        canvas = latents.expand(len(branches), *latents.shape[1:])
        if not self.on_double_canvas:
            return canvas
        seen = [source_latents if branch.sees_source else torch.zeros_like(source_latents) for branch in branches]
        return torch.cat((canvas, torch.cat(seen)), dim=-1)


class Stages:
    """Makes the stages of edits and keeps the last ones: text is encoded and projected once for all their steps."""

    def __init__(self, denoisers: Denoisers, reader: PromptReader) -> None:
        self._denoisers, self._reader = denoisers, reader
        self._kept: Recent[tuple[object, ...], Stage] = Recent(STAGES_KEPT)

    def edit(self, settings: EditSettings, timesteps: tuple[float, ...]) -> Stage:
        """The stage that sees the source, at any of ``timesteps``."""
        prompts, guidance = self._reader.prompts(settings), _guidance(settings)

        def make() -> Stage:
            denoiser = self._denoisers.edit
            branches = edit_branches(guidance, with_dead=not denoiser.measures.dead_branches)
            return Stage(
                denoiser,
                self._batches(denoiser, branches, prompts, timesteps),
                on_double_canvas=True,
                combine=lambda velocities: guide_branches(velocities, guidance),
            )

        return self._kept.get(("edit", prompts, guidance, timesteps), make)

    def refine(self, settings: EditSettings, timesteps: tuple[float, ...]) -> Stage:
        """The tail that sees the picture alone; image guidance and the norm are not used in it.

        Raises:
            ValueError: the model has no refine stage.
        """
        prompts, guidance = self._reader.prompts(settings), _guidance(settings)

        def make() -> Stage:
            denoiser = self._denoisers.refine
            if denoiser is None:
                raise ValueError("settle() lets no refine stage pass without a model for it")
            branches = refine_branches(guidance.scale)

            def combine(velocities: Mapping[Branch, Tensor]) -> Tensor:
                if len(branches) == 1:
                    return velocities[branches[0]]
                negative, target = (velocities[branch] for branch in branches)
                return guide_refinement(negative, target, guidance_scale=guidance.scale)

            batches = self._batches(denoiser, branches, prompts, timesteps)
            return Stage(denoiser, batches, on_double_canvas=False, combine=combine)

        return self._kept.get(("refine", prompts, guidance, timesteps), make)

    def _batches(
        self, denoiser: Denoiser, branches: tuple[Branch, ...], prompts: Prompts, timesteps: tuple[float, ...]
    ) -> tuple[Batch, ...]:
        """All branches at once, or one at a time."""
        texts = {Words.PROMPT: prompts.prompt, Words.NEGATIVE: prompts.negative, Words.TARGET: prompts.target}
        # Only what is read: where memory is short, each text moves all encoders.
        read = {branch.words for branch in branches}
        embeddings = {words: self._reader.embeddings(texts[words]) for words in read}
        together = [(branch,) for branch in branches] if denoiser.measures.one_by_one else [branches]
        with exact_inference():
            return tuple(_batch(denoiser, some, embeddings, timesteps) for some in together)


def _guidance(settings: EditSettings) -> Guidance:
    return Guidance(settings.guidance_scale, settings.image_guidance_scale, settings.normed_guidance)


def _batch(
    transformer: Denoiser,
    branches: tuple[Branch, ...],
    embeddings: Mapping[Words, PromptEmbeddings],
    timesteps: tuple[float, ...],
) -> Batch:
    read = [embeddings[branch.words] for branch in branches]
    t5 = torch.cat([words.t5 for words in read])
    llama = torch.cat([words.llama for words in read], dim=1)
    pooled = torch.cat([words.pooled for words in read])
    text = transformer.project_text(t5, llama)
    if not transformer.measures.ahead:
        return Batch(branches, text, pooled)
    count = len(branches)
    times = torch.tensor(timesteps, device=pooled.device).repeat_interleave(count)
    table = transformer.modulations(times, pooled.repeat(len(timesteps), 1))
    at = {time: table.rows(index * count, count) for index, time in enumerate(timesteps)}
    return Batch(branches, text, pooled, at)
