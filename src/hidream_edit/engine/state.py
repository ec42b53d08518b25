"""An edit between two steps, as a value: drop it, preview it, save it, continue it elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from hidream_edit.domain.edit import EditSettings
from hidream_edit.domain.errors import StateInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality, Traded
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.fitting import tensor_of
from hidream_edit.engine.quality.shortcuts import Shortcuts
from hidream_edit.engine.sampler import SolverState

FORMAT = "hidream-edit state 1"


@dataclass(frozen=True, slots=True)
class EditState:
    """Everything that the rest of an edit depends on, the weights aside."""

    settings: EditSettings
    source: Picture
    model: str  # fingerprint of the weights and the precision that the edit began with
    prompt: str  # as composed for the model
    warnings: tuple[str, ...]
    image_index: int  # which of the images is being made
    step: int  # steps done of that image
    source_latents: Tensor = field(repr=False)
    solver: SolverState = field(repr=False)
    pictures: tuple[Picture, ...] = ()  # images that are finished, in the source's size
    canvases: tuple[Tensor, ...] = field(default=(), repr=False)  # images after those: (h, w, 3) uint8, decoded only
    source_canvas: Tensor | None = field(default=None, repr=False, compare=False)  # what the model saw; not saved
    shortcuts: Shortcuts = field(default=Shortcuts(), repr=False)  # only counts where the quality is exact
    float8: bool = False  # whether its steps are multiplied in float8
    quantization: Quantization = Quantization.NONE  # of the weights that it began with

    @property
    def step_count(self) -> int:
        """Steps of one image."""
        return self.settings.num_inference_steps

    @property
    def steps_total(self) -> int:
        """Steps of all images."""
        return self.settings.num_images * self.step_count

    @property
    def steps_done_total(self) -> int:
        """Steps done over all images."""
        return self.image_index * self.step_count + self.step

    @property
    def image_is_finished(self) -> bool:
        """Whether the current image has had its last step."""
        return self.step == self.step_count

    @property
    def is_done(self) -> bool:
        """Whether every image has had its last step; `canvases` wait for `Engine.finish` all the same."""
        return len(self.pictures) + len(self.canvases) == self.settings.num_images

    @property
    def traded(self) -> Traded | None:
        """What was done without so far; None of an exact edit."""
        if self.settings.quality is Quality.EXACT and self.quantization is Quantization.NONE:
            return None
        past = self.shortcuts
        return Traded(
            self.settings.quality,
            self.steps_done_total,
            past.steps_computed,
            past.branches,
            past.branches_computed,
            self.float8,
            self.quantization,
        )

    def with_image_started(self, image_index: int, noise: Tensor) -> EditState:
        """The state at step 0 of an image."""
        return replace(
            self, image_index=image_index, step=0, solver=SolverState(noise), shortcuts=self.shortcuts.fresh()
        )

    def to_bytes(self) -> bytes:
        """A safetensors file that `from_bytes` takes back, in any process."""
        tensors = {"source.rgb": tensor_of(self.source), "source_latents": self.source_latents}
        tensors["latents"] = self.solver.latents
        if self.solver.corrected is not None:
            tensors["corrected"] = self.solver.corrected
        tensors |= {f"shortcut.{name}": tensor for name, tensor in self.shortcuts.tensors().items()}
        tensors |= {f"prediction.{age}": tensor for age, tensor in enumerate(self.solver.predictions)}
        tensors |= {f"picture.{index}": tensor_of(picture) for index, picture in enumerate(self.pictures)}
        tensors |= {f"canvas.{index}": canvas for index, canvas in enumerate(self.canvases)}
        if self.source.alpha is not None:
            tensors["source.alpha"] = torch.frombuffer(bytearray(self.source.alpha), dtype=torch.uint8)
        facts = {
            "settings": self.settings.as_json(),
            "model": self.model,
            "prompt": self.prompt,
            "warnings": self.warnings,
            "image_index": self.image_index,
            "step": self.step,
            "order": self.solver.order,
            "shortcuts": self.shortcuts.facts(),
            "float8": self.float8,
            "quantization": self.quantization.value,
            "alpha_kept": [picture.alpha is not None for picture in self.pictures],
            "canvases": len(self.canvases),
        }
        owned = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
        data: bytes = save_tensors(owned, metadata={"format": FORMAT, "state": json.dumps(facts)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> EditState:
        """The state that `to_bytes` wrote, with its tensors on the CPU.

        Raises:
            StateInvalid: the bytes are something else, or of another version.
        """
        try:
            facts = _facts(data)
            tensors = load_tensors(data)
            alpha = bytes(tensors["source.alpha"].numpy()) if "source.alpha" in tensors else None
            shortcuts = {
                name.removeprefix("shortcut."): tensor
                for name, tensor in tensors.items()
                if name.startswith("shortcut.")
            }
            predictions = (tensors[f"prediction.{age}"] for age in range(2) if f"prediction.{age}" in tensors)
            return cls(
                settings=EditSettings.from_json(facts["settings"]),
                source=_picture(tensors["source.rgb"], alpha),
                model=facts["model"],
                prompt=facts["prompt"],
                warnings=tuple(facts["warnings"]),
                image_index=facts["image_index"],
                step=facts["step"],
                source_latents=tensors["source_latents"],
                solver=SolverState(
                    tensors["latents"], tuple(predictions), tensors.get("corrected"), int(facts["order"])
                ),
                pictures=tuple(
                    _picture(tensors[f"picture.{index}"], alpha if kept else None)
                    for index, kept in enumerate(facts["alpha_kept"])
                ),
                canvases=tuple(tensors[f"canvas.{index}"] for index in range(facts.get("canvases", 0))),
                # States of before there was a choice are exact ones.
                shortcuts=Shortcuts.from_saved(facts["shortcuts"], shortcuts) if "shortcuts" in facts else Shortcuts(),
                float8=bool(facts.get("float8", False)),
                quantization=Quantization(facts.get("quantization", Quantization.NONE)),
            )
        except (KeyError, TypeError, ValueError, SafetensorError) as problem:
            raise StateInvalid(f"these bytes are not a saved edit of this version ({problem})") from problem


def _facts(data: bytes) -> dict[str, Any]:
    """The JSON in the header of a saved state."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']!r} instead of {FORMAT!r}")
    facts: dict[str, Any] = json.loads(metadata["state"])
    return facts


def _picture(rgb: Tensor, alpha: bytes | None) -> Picture:
    return Picture(rgb.shape[1], rgb.shape[0], rgb.numpy().tobytes(), alpha)
