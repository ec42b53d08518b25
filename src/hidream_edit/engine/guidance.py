"""Branches of a denoising step and how they are combined (model.md 8)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

NORM_EPS = 1e-8


class Words(StrEnum):
    """Which text a branch reads."""

    PROMPT = "prompt"
    NEGATIVE = "negative"
    TARGET = "target"  # the description alone, for the refine tail


class Branch(NamedTuple):
    """One conditioning of a step."""

    words: Words
    sees_source: bool


class Guidance(NamedTuple):
    """How strongly an edit follows its text and its source."""

    scale: float
    image_scale: float
    normed: bool

    @property
    def is_on(self) -> bool:
        return self.scale > 1


def edit_branches(guidance: Guidance, *, with_dead: bool = True) -> tuple[Branch, ...]:
    """Branches of the edit stage: unconditional, image-conditioned, fully conditioned; only the last without guidance.

    The unconditional branch of the normed variant reads the prompt, that of the plain one the negative prompt. Without
    the dead ones, those are left out that cancel in `guide`.
    """
    fully_conditioned = Branch(Words.PROMPT, sees_source=True)
    if not guidance.is_on:
        return (fully_conditioned,)
    unconditional = Branch(Words.PROMPT if guidance.normed else Words.NEGATIVE, sees_source=False)
    image_conditioned = Branch(Words.NEGATIVE, sees_source=True)
    if not with_dead:
        if guidance.image_scale == 1:
            return image_conditioned, fully_conditioned
        if guidance.normed and guidance.image_scale == 0:
            return (unconditional,)
        if not guidance.normed and guidance.image_scale == guidance.scale:
            return unconditional, fully_conditioned
    return unconditional, image_conditioned, fully_conditioned


def refine_branches(guidance_scale: float) -> tuple[Branch, ...]:
    """Branches of the refine stage, whose canvas has no source half."""
    target = Branch(Words.TARGET, sees_source=False)
    return (target,) if guidance_scale <= 1 else (Branch(Words.NEGATIVE, sees_source=False), target)


class Velocities(NamedTuple):
    """One velocity per branch of the edit stage, each (images, channels, rows, columns)."""

    unconditional: Tensor
    image_conditioned: Tensor
    fully_conditioned: Tensor


def guide_branches(velocities: Mapping[Branch, Tensor], guidance: Guidance) -> Tensor:
    """Combine what the branches of `edit_branches` came to. Zero stands for a dead one, since it cancels."""
    present = next(iter(velocities.values()))
    if not guidance.is_on:
        return present
    branches = edit_branches(guidance)
    return guide(
        Velocities(*(velocities[one] if one in velocities else torch.zeros_like(present) for one in branches)),
        guidance_scale=guidance.scale,
        image_guidance_scale=guidance.image_scale,
        normed=guidance.normed,
    )


def guide(at: Velocities, *, guidance_scale: float, image_guidance_scale: float, normed: bool) -> Tensor:
    """Combine the branches of the edit stage, in float32.

    Plain: v_u + g_I·(v_i − v_u) + g·(v_f − v_i). Normed: the text-guided vector p is first kept no longer, per latent
    pixel over its channels, than v_f; then v_u + g_I·(s·p − v_u).
    """
    unconditional, image_conditioned, fully_conditioned = (velocity.float() for velocity in at)
    towards_edit = fully_conditioned - image_conditioned
    if not normed:
        towards_image = image_conditioned - unconditional
        combined = unconditional + image_guidance_scale * towards_image + guidance_scale * towards_edit
    else:
        guided = image_conditioned + guidance_scale * towards_edit
        length = guided.norm(dim=1, keepdim=True) + NORM_EPS
        shrink = (fully_conditioned.norm(dim=1, keepdim=True) / length).clamp(0, 1)
        combined = unconditional + image_guidance_scale * (shrink * guided - unconditional)
    return combined.to(at.fully_conditioned.dtype)


def guide_refinement(negative: Tensor, target: Tensor, *, guidance_scale: float) -> Tensor:
    """Combine the two branches of the refine stage: v_n + g·(v_t − v_n), in float32."""
    combined = negative.float() + guidance_scale * (target.float() - negative.float())
    return combined.to(target.dtype)
