"""How many bytes weights take in each quantization; numbers only, no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from hidream_edit.domain.quantization import Quantization

BLOCK = 64  # weights of a row that share a scale in nf4
MODULATION = ".adaLN_modulation."
INDEX_BYTES = 4


def kept_as(name: str, inputs: int, quantization: Quantization) -> Quantization:
    """What the weight ``name`` with so many inputs is kept as, where the model is to be in ``quantization``.

    Eight bits is the least for what scales and shifts whole tokens, and for rows that nf4's blocks do not divide.
    """
    if quantization is Quantization.NF4 and (MODULATION in name or inputs % BLOCK):
        return Quantization.INT8
    return quantization


def packed_bytes(outputs: int, inputs: int, kept: Quantization, *, item: int) -> int:
    """Of one weight, where the model computes with numbers of ``item`` bytes; scales are such numbers too."""
    count = outputs * inputs
    if kept is Quantization.NONE:
        return count * item
    if kept is Quantization.NF4:
        return count // 2 + count // BLOCK * item
    return count + outputs * item


def unpacking_bytes(outputs: int, inputs: int, kept: Quantization, *, item: int) -> int:
    """What is there beside a packed weight while it is widened: the wide one, and for nf4 indices of its pairs."""
    count = outputs * inputs
    if kept is Quantization.NONE:
        return 0
    return count * item + (count // 2 * INDEX_BYTES if kept is Quantization.NF4 else 0)


@dataclass(frozen=True, slots=True)
class Packing:
    """A part of a model whose ``packed`` weights, each (outputs, inputs), are kept in ``quantization``."""

    quantization: Quantization
    packed: frozenset[str]
    item: int  # bytes of a number that the model computes with

    def bytes_of(self, name: str, shape: tuple[int, ...]) -> int:
        """Of any tensor of the part."""
        if name not in self.packed:
            return prod(shape) * self.item
        outputs, inputs = shape
        return packed_bytes(outputs, inputs, kept_as(name, inputs, self.quantization), item=self.item)

    def unpacking(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The most that one weight takes while it is widened; there is one at a time."""
        widest = 0
        for name in self.packed & shapes.keys():
            outputs, inputs = shapes[name]
            kept = kept_as(name, inputs, self.quantization)
            widest = max(widest, unpacking_bytes(outputs, inputs, kept, item=self.item))
        return widest


def packed_in_transformer(shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """The linear layers of its blocks. Gates are not among them: they decide, and are small."""
    return frozenset(
        name
        for name, shape in shapes.items()
        if "_stream_blocks." in name and len(shape) == 2 and not name.endswith(".gate.weight")
    )
