"""Noise levels and model times of a run, read off the samplers of diffusers (model.md 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hidream_edit.domain.errors import InputInvalid, ModelFileInvalid

SamplerKind = Literal["unipc", "euler"]

SAMPLER_KINDS: dict[str, SamplerKind] = {
    "UniPCMultistepScheduler": "unipc",
    "FlowMatchEulerDiscreteScheduler": "euler",
}

# What the solver in sampler.py computes; a config that asks for more must not be obeyed in part.
UNIPC_EXPECTED: dict[str, object] = {
    "solver_type": "bh2",
    "predict_x0": True,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "lower_order_final": True,
    "thresholding": False,
    "solver_p": None,
    "final_sigmas_type": "zero",
}
EULER_EXPECTED: dict[str, object] = {"stochastic_sampling": False, "invert_sigmas": False}


@dataclass(frozen=True, slots=True)
class Schedule:
    """``timesteps`` go into the transformer, ``sigmas`` (one more, ending in zero) into the solver."""

    kind: SamplerKind
    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    order: int = 2  # highest order of the UniPC solver

    @property
    def step_count(self) -> int:
        return len(self.timesteps)


def resolution_shift(max_tokens: int) -> float:
    """μ by the length that the model pads to, not by the picture's size (model.md 10.3)."""
    slope = (1.15 - 0.5) / (4096 - 256)
    return slope * max_tokens + 0.5 - 256 * slope


def sampler_kind(config: Mapping[str, Any]) -> SamplerKind:
    """Which solver a scheduler_config.json asks for.

    Raises:
        ModelFileInvalid: it asks for something that this engine does not compute.
    """
    name = config.get("_class_name", "")
    if name not in SAMPLER_KINDS:
        raise ModelFileInvalid(f"scheduler {name or 'without _class_name'}: this engine samples with {known_names()}")
    kind = SAMPLER_KINDS[name]
    for key, expected in (UNIPC_EXPECTED if kind == "unipc" else EULER_EXPECTED).items():
        if key in config and config[key] != expected:
            raise ModelFileInvalid(f"scheduler config: {key} is {config[key]!r}, this engine computes {expected!r}")
    if kind == "unipc" and config.get("solver_order", 2) not in (1, 2):
        raise ModelFileInvalid(f"scheduler config: solver_order {config['solver_order']}, this engine goes up to 2")
    if config.get("disable_corrector"):
        raise ModelFileInvalid("scheduler config: disable_corrector must be empty")
    return kind


def known_names() -> str:
    """The scheduler classes that are understood, for error texts."""
    return " or ".join(SAMPLER_KINDS)


def make_schedule(config: Mapping[str, Any], step_count: int, *, max_tokens: int) -> Schedule:
    """The grid of ``step_count`` steps.

    Raises:
        InputInvalid: so many steps that two of them would share a model time, which upstream resolves wrongly.
        ModelFileInvalid: see `sampler_kind`.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler  # slow to import

    kind = sampler_kind(config)
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    if kind == "unipc":
        grid = UniPCMultistepScheduler(**options)
        grid.set_timesteps(step_count)
        timesteps = [float(time) for time in grid.timesteps]
        if len(set(timesteps)) < len(timesteps):
            raise InputInvalid(
                f"num_inference_steps {step_count} is more than this sampler can tell apart",
                field="num_inference_steps",
            )
    else:
        grid = FlowMatchEulerDiscreteScheduler(**options)
        mu = resolution_shift(max_tokens) if options.get("use_dynamic_shifting") else None
        grid.set_timesteps(step_count, mu=mu)
        timesteps = [float(time) for time in grid.timesteps]
    sigmas = tuple(float(sigma) for sigma in grid.sigmas)
    return Schedule(kind, tuple(timesteps), sigmas, order=options.get("solver_order", 2))


def refine_start(step_count: int, refine_strength: float) -> int:
    """First step of the refine tail: truncated in floating point, exactly as upstream (model.md 11)."""
    return int(step_count * (1.0 - refine_strength))
