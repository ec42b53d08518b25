"""Weights of the refine stage that stay as narrow as their file has them, and are widened for each product.

Where an engine computes in float32 and the files hold bfloat16, the edit stage's weights become wide when the adapter
is merged into them. The base's own, which the refine stage alone reads, lose nothing by staying as they are: a model
with an adapter then takes one and a half times its weights instead of twice, and gives the same bits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

import torch

from hidream_edit.engine.adapter import adapted_weight
from hidream_edit.engine.checked_model import CheckedTransformers
from hidream_edit.engine.memory.packing import MODULATION, packed_in_transformer
from hidream_edit.engine.model.measures import Measures


def kept_as_stored(found: CheckedTransformers, dtype: torch.dtype, measures: Measures) -> dict[str, torch.dtype]:
    """What the refine stage keeps as its file has it: names, and what they are there. Empty where nothing is saved."""
    if not measures.as_stored:
        return {}
    if found.base is not None:
        headers, own = found.base, {*found.base}
    elif found.adapter is not None:
        headers, own = found.headers, {adapted_weight(name) for name in found.adapter}
    else:
        return {}
    # The products of attention and feed-forwards (`model/products.py`); other layers take what they compute with.
    multiplied = {name for name in packed_in_transformer(found.shapes) if MODULATION not in name}
    return {name: headers[name].dtype for name in multiplied & own if _widens(headers[name].dtype, dtype)}


def _widens(stored: torch.dtype, dtype: torch.dtype) -> bool:
    """Whether each number of one is a number of the other, in fewer bytes."""
    return (
        stored.is_floating_point
        and stored.itemsize in (2, 4)
        and stored.itemsize < dtype.itemsize
        and torch.promote_types(stored, dtype) is dtype
    )


def widening_bytes(
    names: Iterable[str], shapes: Mapping[str, tuple[int, ...]], measures: Measures, *, item: int
) -> int:
    """The most that is wide at one time, in numbers of ``item`` bytes: a weight, or those that are one product."""
    wide: Counter[str] = Counter()
    for name in names:
        wide[_product_of(name, measures)] += prod(shapes[name]) * item
    return max(wide.values(), default=0)


def _product_of(weight: str, measures: Measures) -> str:
    """A name that the weights of one product share."""
    if measures.fused:
        weight = re.sub(r"\.to_[qkv](?=\.|_t)", ".qkv", weight)
    if measures.fused or measures.grouped:
        weight = re.sub(r"\.w[13]\.", ".w13.", weight)
    return re.sub(r"\.experts\.\d+\.", ".experts.", weight) if measures.grouped else weight
