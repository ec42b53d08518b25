"""The update rules, as functions of values.

The samplers of diffusers keep their history inside an object. Here it is a value, so that an edit can be set aside
after any step and continued elsewhere; tests compare both, bit by bit in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hidream_edit.engine.schedule import Schedule


class SolverState(NamedTuple):
    """Where a run stands. All tensors have the shape and dtype of the latents."""

    latents: Tensor  # x_i
    predictions: tuple[Tensor, ...] = ()  # estimates of the clean latents m_{i-1}, m_{i-2}, newest first
    corrected: Tensor | None = None  # y_{i-1}, the sample that the last prediction started from
    order: int = 0  # of the last prediction

    def to(self, device: torch.device) -> SolverState:
        """The same with its tensors on ``device``."""
        corrected = None if self.corrected is None else self.corrected.to(device)
        return SolverState(
            self.latents.to(device), tuple(one.to(device) for one in self.predictions), corrected, self.order
        )


def advance(state: SolverState, velocity: Tensor, step: int, schedule: Schedule) -> SolverState:
    """One step from ``sigmas[step]`` to ``sigmas[step + 1]``; ``velocity`` is noise − picture."""
    if schedule.kind == "euler":
        return _euler(state, velocity, step, schedule)
    return _unipc(state, velocity, step, schedule)


def clean_estimate(latents: Tensor, velocity: Tensor, step: int, schedule: Schedule) -> Tensor:
    """x − σ·v: the finished latents as far as this step can tell."""
    return latents - schedule.sigmas[step] * velocity


def _euler(state: SolverState, velocity: Tensor, step: int, schedule: Schedule) -> SolverState:
    sigma = torch.tensor(schedule.sigmas, dtype=torch.float32)
    stride = (sigma[step + 1] - sigma[step]).to(state.latents.device)
    latents = (state.latents.float() + stride * velocity).to(velocity.dtype)
    return SolverState(latents, (clean_estimate(state.latents, velocity, step, schedule),))


def _unipc(state: SolverState, velocity: Tensor, step: int, schedule: Schedule) -> SolverState:
    """UniPC of order two with B(h) = e^h − 1 on predictions of the clean latents (model.md 10.1).

    The scalars are 0-dimensional float32 tensors, which leave the dtype of the latents alone, as in diffusers.
    """
    device = state.latents.device
    sigma = torch.tensor(schedule.sigmas, dtype=torch.float32, device=device)
    alpha = 1 - sigma
    half_log_snr = alpha.log() - sigma.log()

    current = state.latents - sigma[step] * velocity
    corrected = state.latents
    if step > 0:
        corrected = _corrected(state, current, step, sigma, alpha, half_log_snr)

    order = min(schedule.order, step + 1, schedule.step_count - step)
    h = half_log_snr[step + 1] - half_log_snr[step]
    e = torch.expm1(-h)
    following = sigma[step + 1] / sigma[step] * corrected - alpha[step + 1] * e * current
    if order == 2:
        ratio = (half_log_snr[step - 1] - half_log_snr[step]) / h
        slope = (state.predictions[0] - current) / ratio
        following = following - alpha[step + 1] * e * (0.5 * slope)
    following = following.to(corrected.dtype)
    return SolverState(following, (current, *state.predictions)[:2], corrected, order)


def _corrected(
    state: SolverState, current: Tensor, step: int, sigma: Tensor, alpha: Tensor, half_log_snr: Tensor
) -> Tensor:
    """y_i: the last step repeated, now that the prediction at its end is known."""
    if state.corrected is None:
        raise ValueError("a state after the first step carries the corrected sample")
    previous = state.predictions[0]
    h = half_log_snr[step] - half_log_snr[step - 1]
    e = torch.expm1(-h)
    base = sigma[step] / sigma[step - 1] * state.corrected - alpha[step] * e * previous
    change = current - previous
    if state.order == 1:
        correction = 0.5 * change
    else:
        ratio = (half_log_snr[step - 2] - half_log_snr[step - 1]) / h
        slope = (state.predictions[1] - previous) / ratio
        hh = -h
        phi_2 = torch.expm1(hh) / hh - 1
        phi_3 = phi_2 / hh - 0.5
        b = torch.stack((phi_2 / e, 2 * phi_3 / e))
        ones = torch.ones_like(ratio)
        system = torch.stack((torch.stack((ones, ones)), torch.stack((ratio, ones))))
        weights = torch.linalg.solve(system, b).to(current.dtype)
        correction = weights[0] * slope + weights[1] * change
    return (base - alpha[step] * e * correction).to(state.corrected.dtype)
