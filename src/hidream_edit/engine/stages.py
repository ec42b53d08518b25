"""One denoising step: the edit stage on the double canvas, the refine stage on the picture alone (model.md 8, 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hidream_edit.engine.guidance import (
    Branch,
    Guidance,
    Words,
    edit_branches,
    guide_branches,
    guide_refinement,
    refine_branches,
)
from hidream_edit.engine.model.denoiser import Denoiser
from hidream_edit.engine.model.transformer import TextTokens
from hidream_edit.engine.text_encoders import PromptEmbeddings

Combine = Callable[[Mapping[Branch, Tensor]], Tensor]


class Batch(NamedTuple):
    """Branches that go through the transformer together."""

    branches: tuple[Branch, ...]
    text: TextTokens  # one row per branch
    pooled: Tensor  # (branches, width)


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
            output = self.transformer(canvas, timesteps, batch.text, batch.pooled, noise_columns=latents.shape[-1])
            velocities |= zip(batch.branches, (-output).tensor_split(len(batch.branches)), strict=True)
        return velocities

    def _canvas(self, branches: tuple[Branch, ...], latents: Tensor, source_latents: Tensor) -> Tensor:
        canvas = latents.expand(len(branches), *latents.shape[1:])
        if not self.on_double_canvas:
            return canvas
        seen = [source_latents if branch.sees_source else torch.zeros_like(source_latents) for branch in branches]
        return torch.cat((canvas, torch.cat(seen)), dim=-1)


def edit_stage(transformer: Denoiser, embeddings: Mapping[Words, PromptEmbeddings], guidance: Guidance) -> Stage:
    """The stage that sees the source."""
    branches = edit_branches(guidance, with_dead=not transformer.measures.dead_branches)
    return Stage(
        transformer,
        _batches(transformer, branches, embeddings),
        on_double_canvas=True,
        combine=lambda velocities: guide_branches(velocities, guidance),
    )


def refine_stage(
    transformer: Denoiser, embeddings: Mapping[Words, PromptEmbeddings], *, guidance_scale: float
) -> Stage:
    """The tail that sees the picture alone; image guidance and the norm are not used in it."""
    branches = refine_branches(guidance_scale)

    def combine(velocities: Mapping[Branch, Tensor]) -> Tensor:
        if len(branches) == 1:
            return velocities[branches[0]]
        negative, target = (velocities[branch] for branch in branches)
        return guide_refinement(negative, target, guidance_scale=guidance_scale)

    return Stage(transformer, _batches(transformer, branches, embeddings), on_double_canvas=False, combine=combine)


def _batches(
    transformer: Denoiser, branches: tuple[Branch, ...], embeddings: Mapping[Words, PromptEmbeddings]
) -> tuple[Batch, ...]:
    """All branches at once, or one at a time."""
    together = [(branch,) for branch in branches] if transformer.measures.one_by_one else [branches]
    return tuple(_batch(transformer, some, embeddings) for some in together)


def _batch(transformer: Denoiser, branches: tuple[Branch, ...], embeddings: Mapping[Words, PromptEmbeddings]) -> Batch:
    read = [embeddings[branch.words] for branch in branches]
    t5 = torch.cat([words.t5 for words in read])
    llama = torch.cat([words.llama for words in read], dim=1)
    return Batch(branches, transformer.project_text(t5, llama), torch.cat([words.pooled for words in read]))
