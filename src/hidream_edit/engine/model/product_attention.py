"""Attention on a CPU as products by oneDNN (see products.py), a few queries at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from hidream_edit.engine.model.attention import Pad
from hidream_edit.engine.model.products import product

# So many logits stay in the cache between the two products.
LOGITS_AT_ONCE = 2**19
QUERIES_MIN = 64


def attend_by_products(query: Tensor, key: Tensor, value: Tensor, pad: Pad | None = None) -> Tensor:
    """As `attention.attend`."""
    batch, heads, tokens, channels = query.shape
    read = torch.empty(batch, tokens, heads, channels, dtype=query.dtype)
    at_once = max(QUERIES_MIN, LOGITS_AT_ONCE // key.shape[2])
    for sample in range(batch):
        for head in range(heads):
            keys = key[sample, head] * channels**-0.5
            values = value[sample, head].contiguous().t()
            for start in range(0, tokens, at_once):
                logits = product(query[sample, head, start : start + at_once].contiguous(), keys)
                if pad is not None:
                    logits[:, pad.place] += pad.logit
                read[sample, start : start + at_once, head] = product(logits.softmax(-1), values)
    return read.transpose(1, 2)
