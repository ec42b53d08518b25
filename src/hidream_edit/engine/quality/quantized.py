"""Linear layers whose weights are kept in eight or four bits and widened for each product.

Activations and products stay in the model's own precision: what is saved is memory, and what is copied where blocks
are streamed. One weight at a time is wide.

int8 and float8 (e4m3) have a scale for each output. nf4 has the sixteen levels that hold as many weights each if these
are normally distributed (Dettmers et al., "QLoRA", 2023, appendix E), two weights in a byte, a scale for each 64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.memory.packing import BLOCK, kept_as
from hidream_edit.engine.memory.streaming import blocks_of
from hidream_edit.engine.model.products import Linear
from hidream_edit.engine.model.transformer import Transformer

LARGEST = {Quantization.FLOAT8: torch.finfo(torch.float8_e4m3fn).max, Quantization.INT8: 127.0}
# fmt: off
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)
# fmt: on


class Packed(NamedTuple):
    """A weight (outputs, inputs): codes, and scales in the precision that it is widened to."""

    codes: (
        Tensor  # (outputs, inputs) int8 or float8; nf4: (outputs, inputs / 2) bytes, the first weight in the high bits
    )
    scales: Tensor  # (outputs, 1); nf4: (outputs, inputs / 64)


def packed(weight: Tensor, kept: Quantization) -> Packed:
    """``weight`` (outputs, inputs) in fewer bits.

    Raises:
        ValueError: ``kept`` is no quantization, or nf4's blocks do not divide the rows.
    """
    if kept is Quantization.NONE:
        raise ValueError("a weight that is kept as it is has no packed form")
    if kept is Quantization.NF4:
        return _packed_nf4(weight)
    scales = _scales(weight.abs().amax(dim=1, keepdim=True), LARGEST[kept])
    fitted = (weight.float() / scales.float()).clamp(-LARGEST[kept], LARGEST[kept])
    codes = fitted.round().to(torch.int8) if kept is Quantization.INT8 else fitted.to(torch.float8_e4m3fn)
    return Packed(codes, scales)


def packed_under(name: str, weight: Tensor, quantization: Quantization, *, on: torch.device) -> dict[str, Tensor]:
    """What takes the place of ``weight`` among the weights of a model; computed ``on`` a device, kept where it was."""
    kept = packed(weight.to(on), kept_as(name, weight.shape[1], quantization))
    stem = name.removesuffix("weight")
    return {stem + part: tensor.to(weight.device) for part, tensor in kept._asdict().items()}


def _packed_nf4(weight: Tensor) -> Packed:
    outputs, inputs = weight.shape
    if inputs % BLOCK:
        raise ValueError(f"nf4 takes rows of a multiple of {BLOCK} weights, not of {inputs}")
    blocks = weight.view(outputs, inputs // BLOCK, BLOCK)
    scales = _scales(blocks.abs().amax(dim=2), 1.0)
    levels = torch.tensor(NF4_LEVELS, device=weight.device)
    borders = (levels[1:] + levels[:-1]) / 2
    nearest = torch.bucketize(blocks.float() / scales.float()[..., None], borders).to(torch.uint8)
    pairs = nearest.view(outputs, inputs // 2, 2)
    return Packed(pairs[..., 0] << 4 | pairs[..., 1], scales)


def _scales(largest: Tensor, reach: float) -> Tensor:
    """So that the largest weight is the largest code. Rounded first: codes then make up for it."""
    return torch.where(largest > 0, largest.float() / reach, 1.0).to(largest.dtype)


def unpacked(codes: Tensor, scales: Tensor) -> Tensor:
    """The weight (outputs, inputs) in the precision of ``scales``."""
    if codes.dtype is not torch.uint8:
        return codes.to(scales.dtype).mul_(scales)
    # A byte at a time: a table of the 256 pairs of levels.
    levels = torch.tensor(NF4_LEVELS, device=codes.device, dtype=scales.dtype)
    table = torch.stack((levels.repeat_interleave(len(levels)), levels.repeat(len(levels))), dim=1)
    pairs = table.index_select(0, codes.flatten().int())
    return pairs.view(*scales.shape, BLOCK).mul_(scales[..., None]).view(len(codes), -1)


class QuantizedLinear(Linear):
    """A linear layer whose weight is unpacked whenever it is asked for."""

    def __init__(self, inputs: int, outputs: int, kept: Packed, bias: Tensor | None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, outputs
        self.codes = nn.Parameter(kept.codes, requires_grad=False)
        self.scales = nn.Parameter(kept.scales, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach(), requires_grad=False))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(outputs, inputs), made anew."""
        return unpacked(self.codes, self.scales)


def linear_weights(module: nn.Module) -> frozenset[str]:
    """Names of the weights of the linear layers in the blocks of a transformer or a text encoder."""
    blocks: list[nn.Module] = [*module.blocks] if isinstance(module, Transformer) else blocks_of(module)
    inside = {id(part) for block in blocks for part in block.modules() if isinstance(part, nn.Linear)}
    return frozenset(f"{name}.weight" for name, part in module.named_modules() if id(part) in inside)


def quantize(
    module: nn.Module, names: Iterable[str], quantization: Quantization, *, on: torch.device | None = None
) -> None:
    """Replace the linear layers with the weights ``names``, one after the other; each stays where it was.

    Args:
        module: what holds them. Of one on torch's meta device the new layers are empty too.
        names: as `linear_weights` gives them.
        quantization: what for.
        on: the device that computes the codes; where each weight is by default.
    """
    for name in names:
        parent, _, child = name.removesuffix(".weight").rpartition(".")
        layer = module.get_submodule(parent).get_submodule(child)
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"{name} belongs to a {type(layer).__name__}")
        home = layer.weight.device
        kept = packed(layer.weight.to(on or home), kept_as(name, layer.in_features, quantization))
        replacement = QuantizedLinear(
            layer.in_features, layer.out_features, Packed(*(t.to(home) for t in kept)), layer.bias
        )
        if isinstance(layer, Linear):
            replacement.by_onednn = layer.by_onednn
        setattr(module.get_submodule(parent), child, replacement)
