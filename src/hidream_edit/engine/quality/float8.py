"""Products in float8: half the bytes and twice the rate of bfloat16, on GPUs that multiply it.

Only the wide products of the blocks (queries, keys, values, outputs, feed-forwards). What decides or scales stays in
the working precision: gates, modulation, embeddings, norms, the final layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_edit.domain.errors import DeviceUnavailable
from hidream_edit.engine.devices import free_bytes
from hidream_edit.engine.loading import LoadedModel
from hidream_edit.engine.model.attention import Attention
from hidream_edit.engine.model.experts import FeedForward
from hidream_edit.engine.model.transformer import Transformer

Float8 = bool | Literal["emulated"]
LARGEST = torch.finfo(torch.float8_e4m3fn).max
CAPABILITY_MIN = (8, 9)  # NVIDIA's Ada and Hopper: the first that multiply it
GRANULE = 16  # widths that the kernel takes are multiples of it


def check_float8(device: torch.device) -> None:
    """Refuse before anything loads.

    Raises:
        DeviceUnavailable: the device would be no faster for it.
    """
    found = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if found is None or found < CAPABILITY_MIN:
        what = "a CPU" if found is None else f"a GPU of compute capability {found[0]}.{found[1]}"
        raise DeviceUnavailable(
            f"float8 needs a GPU of compute capability {CAPABILITY_MIN[0]}.{CAPABILITY_MIN[1]} or newer (Ada, Hopper); "
            f"{device} is {what}: leave float8 off"
        )


def quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Float8 rows and a float32 scale for each: ``rows ≈ values·scale``. A row of zeros has the scale 1."""
    largest = rows.abs().amax(dim=-1, keepdim=True).float()
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    # In the rows' own precision, which is a hundred times finer than what comes of it and half as large as float32.
    return (rows * scale.reciprocal().to(rows.dtype)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


class Switch:
    """Whether products are in float8 now, for the layers that share it."""

    def __init__(self, *, emulated: bool) -> None:
        self.emulated = emulated
        self.is_on = False


class Float8Linear(nn.Linear):
    """A linear layer that multiplies in float8 while its switch is on, and is the plain layer otherwise.

    The weight itself stays as it is: its float8 form is made from it, at each use, or once where there is room. Both
    give the same bits.
    """

    switch: Switch
    keeps: bool
    kept: tuple[Tensor, Tensor] | None

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.switch.is_on:
            return super().forward(tokens)
        weight, weight_scale = self.kept or quantised(self.weight)
        if self.keeps and self.kept is None:
            self.kept = weight, weight_scale
        rows, scale = quantised(tokens.flatten(0, -2))
        multiply = _emulated if self.switch.emulated else _multiplied
        product = multiply(rows, scale, weight, weight_scale, tokens.dtype)
        whole = product if self.bias is None else product + self.bias
        return whole.view(*tokens.shape[:-1], self.out_features)


def _multiplied(rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """By the tensor cores, which add in float32."""
    product: Tensor = torch._scaled_mm(  # noqa: SLF001 - the only way to the kernel; torch is pinned
        rows, weight.t(), scale_a=scale, scale_b=weight_scale.t(), out_dtype=torch.bfloat16
    )
    return product.to(dtype)


def _emulated(rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers on any device, slowly: products of two float8 numbers are exact in float32."""
    product: Tensor = F.linear(rows.float(), weight.float()) * scale * weight_scale.t()
    return product.to(torch.bfloat16).to(dtype) if dtype is torch.bfloat16 else product.to(dtype)


class Float8Products:
    """The wide products of the blocks of a model, which can be turned to float8 and back."""

    def __init__(self, transformers: Iterable[Transformer], *, emulated: bool, keeps: bool) -> None:
        """Of layers that two transformers share there is one. ``keeps``: their float8 forms stay in memory."""
        self._switch = Switch(emulated=emulated)
        self.layers: list[Float8Linear] = []
        for layer in (layer for transformer in transformers for layer in _wide_layers(transformer)):
            layer.__class__ = Float8Linear
            wide = cast("Float8Linear", layer)
            wide.switch, wide.keeps, wide.kept = self._switch, keeps, None
            self.layers.append(wide)

    @classmethod
    def of(cls, loaded: LoadedModel, device: torch.device, *, emulated: bool, may_keep: bool) -> Float8Products:
        """Those of a loaded model. Their float8 forms stay in memory where there is room and ``may_keep`` allows it."""
        both = (loaded.edit_transformer, loaded.refine_transformer)
        transformers = [one for one in both if one is not None]
        layers = {layer for one in transformers for layer in _wide_layers(one)}
        kept_bytes = sum(layer.weight.numel() + 4 * layer.out_features for layer in layers)
        plan = loaded.plan
        has_room = device.type == "cuda" and free_bytes(device) > kept_bytes + plan.peak - plan.standing
        keeps = may_keep and plan.everything_is_resident and has_room
        return cls(transformers, emulated=emulated, keeps=keeps)

    @property
    def are_there(self) -> bool:
        """Whether anything can be turned."""
        return bool(self.layers)

    @contextmanager
    def turned(self, *, on: bool) -> Iterator[None]:
        """Float8 or not, for a while. One edit at a time: an engine is not shared by threads."""
        before, self._switch.is_on = self._switch.is_on, on
        try:
            yield
        finally:
            self._switch.is_on = before


NO_FLOAT8 = Float8Products((), emulated=False, keeps=False)


def _wide_layers(transformer: Transformer) -> Iterator[nn.Linear]:
    for module in transformer.modules():
        if isinstance(module, (Attention, FeedForward)):
            for layer in module.children():
                if isinstance(layer, nn.Linear) and not (layer.in_features % GRANULE or layer.out_features % GRANULE):
                    yield layer
