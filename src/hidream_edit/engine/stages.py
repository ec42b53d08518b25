"""One denoising step: the edit stage on the double canvas, the refine stage on the picture alone (model.md 8, 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hidream_edit.engine.guidance import (
    Branch,
    Velocities,
    Words,
    edit_branches,
    guide,
    guide_refinement,
    refine_branches,
)
from hidream_edit.engine.model.denoiser import Denoiser
from hidream_edit.engine.model.transformer import TextTokens
from hidream_edit.engine.text_encoders import PromptEmbeddings


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of a run in which the same transformer, branches and text apply."""

    transformer: Denoiser
    branches: tuple[Branch, ...]
    text: TextTokens  # one batch row per branch
    pooled: Tensor  # (branches, width)
    on_double_canvas: bool
    combine: Callable[[Tensor], Tensor]  # velocities (branches, …) → velocity (1, …)

    def velocity(self, latents: Tensor, source_latents: Tensor, timestep: float) -> Tensor:
        """noise − picture at ``timestep``, as guided; latents (1, channels, rows, columns)."""
        count = len(self.branches)
        canvas = latents.expand(count, *latents.shape[1:])
        if self.on_double_canvas:
            seen = [
                source_latents if branch.sees_source else torch.zeros_like(source_latents) for branch in self.branches
            ]
            canvas = torch.cat((canvas, torch.cat(seen)), dim=-1)
        timesteps = torch.full((count,), timestep, device=latents.device)
        output = self.transformer(canvas, timesteps, self.text, self.pooled, noise_columns=latents.shape[-1])
        return self.combine(-output)


def edit_stage(
    transformer: Denoiser,
    embeddings: Mapping[Words, PromptEmbeddings],
    *,
    guidance_scale: float,
    image_guidance_scale: float,
    normed: bool,
) -> Stage:
    """The stage that sees the source."""
    branches = edit_branches(guidance_scale, normed=normed)

    def combine(velocities: Tensor) -> Tensor:
        if len(branches) == 1:
            return velocities
        return guide(
            Velocities(*velocities.tensor_split(len(branches))),
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            normed=normed,
        )

    return _stage(transformer, branches, embeddings, on_double_canvas=True, combine=combine)


def refine_stage(
    transformer: Denoiser, embeddings: Mapping[Words, PromptEmbeddings], *, guidance_scale: float
) -> Stage:
    """The tail that sees the picture alone; image guidance and the norm are not used in it."""
    branches = refine_branches(guidance_scale)

    def combine(velocities: Tensor) -> Tensor:
        if len(branches) == 1:
            return velocities
        negative, target = velocities.tensor_split(len(branches))
        return guide_refinement(negative, target, guidance_scale=guidance_scale)

    return _stage(transformer, branches, embeddings, on_double_canvas=False, combine=combine)


def _stage(
    transformer: Denoiser,
    branches: tuple[Branch, ...],
    embeddings: Mapping[Words, PromptEmbeddings],
    *,
    on_double_canvas: bool,
    combine: Callable[[Tensor], Tensor],
) -> Stage:
    read = [embeddings[branch.words] for branch in branches]
    t5 = torch.cat([words.t5 for words in read])
    llama = torch.cat([words.llama for words in read], dim=1)
    pooled = torch.cat([words.pooled for words in read])
    return Stage(transformer, branches, transformer.project_text(t5, llama), pooled, on_double_canvas, combine)
