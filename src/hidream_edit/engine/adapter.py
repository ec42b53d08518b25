"""The low-rank adapter that turns I1-Full into E1-Full (model.md 12)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hidream_edit.domain.errors import ModelFileInvalid
from hidream_edit.engine.safetensors_files import TensorHeader, read_header

DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"
REPLACED = frozenset({"x_embedder.proj.weight", "x_embedder.proj.bias"})


def read_adapter(file: Path, base: Mapping[str, tuple[int, ...]]) -> dict[str, TensorHeader]:
    """Headers of the adapter, checked against the shapes of the model that it goes on.

    Raises:
        ModelFileMissing: no such file.
        ModelFileInvalid: it does not fit this model.
    """
    found = read_header(file)
    for name, header in found.items():
        if name in REPLACED:
            if header.shape != base[name]:
                raise ModelFileInvalid(f"{file}: {name} is {list(header.shape)}, the model's {list(base[name])}")
            continue
        target = adapted_weight(name)
        if target not in base:
            raise ModelFileInvalid(f"{file}: {name} adapts nothing in this model")
        outputs, inputs = base[target]
        fits = header.shape[1] == inputs if name.endswith(DOWN) else header.shape[0] == outputs
        partner = name.replace(DOWN, UP) if name.endswith(DOWN) else name.replace(UP, DOWN)
        if not fits or partner not in found:
            raise ModelFileInvalid(f"{file}: {name} of {list(header.shape)} does not fit a weight {outputs}x{inputs}")
    if not found.keys() >= REPLACED:
        raise ModelFileInvalid(f"{file} lacks the patch embedder x_embedder.proj")
    return found


def adapted_weight(name: str) -> str:
    """The weight of the base model that an adapter tensor belongs to."""
    for suffix in (DOWN, UP):
        if name.endswith(suffix):
            return name.removesuffix(suffix) + ".weight"
    return name


def merge(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """W + B·A in float32, rounded once to the dtype of ``weight``. The published adapter has scale 1."""
    return (weight.float() + up.float() @ down.float()).to(weight.dtype)
