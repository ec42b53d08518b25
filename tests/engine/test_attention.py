"""One pad that stands for many gives what many pads give, by every way to attend."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hidream_edit.engine.model.attention import Attend, Pad, attend
from hidream_edit.engine.model.log_sum_attention import attend_plainly, attend_with_log_sum
from hidream_edit.engine.model.product_attention import attend_by_products
from hidream_edit.engine.model.products import onednn_is_here

PLACE = 5
BATCH, HEADS, QUERIES, KEYS, CHANNELS = 2, 3, 70, 11, 16
WAYS = [attend] + [attend_by_products] * onednn_is_here()


def some(tokens: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(BATCH, HEADS, tokens, CHANNELS, generator=torch.Generator().manual_seed(tokens)).to(dtype)


def with_pads(key: Tensor, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The one at `PLACE` written out ``count`` times."""
    repeats = torch.ones(key.shape[2], dtype=torch.int64)
    repeats[PLACE] = count
    return key.repeat_interleave(repeats, dim=2), value.repeat_interleave(repeats, dim=2)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("count", [1, 2, 84, 2346, 10**6])
def test_a_pad_counts_as_often_as_it_is_said_to(way: Attend, count: int) -> None:
    query, key, value = some(QUERIES), some(KEYS), some(KEYS + 1)[:, :, 1:]
    key[:, :, PLACE] = 0
    many = F.scaled_dot_product_attention(query, *with_pads(key, value, min(count, 5000)))
    expected = many if count <= 5000 else value[:, :, PLACE : PLACE + 1].expand_as(query)
    read = way(query, key, value, Pad(PLACE, count))
    assert torch.allclose(read, expected, atol=1e-5 if count <= 5000 else 1e-3)


@pytest.mark.parametrize("count", [3, 84, 4000])
def test_in_bfloat16_no_more_than_rounding_is_lost(count: int) -> None:
    wide = some(QUERIES), some(KEYS), some(KEYS + 1)[:, :, 1:]
    wide[1][:, :, PLACE] = 0
    query, key, value = (one.bfloat16() for one in wide)
    expected = F.scaled_dot_product_attention(query.float(), *with_pads(key.float(), value.float(), count))
    read = attend(query, key, value, Pad(PLACE, count))
    assert read.dtype is torch.bfloat16
    assert float((read.float() - expected).norm() / expected.norm()) < 2**-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_gives_the_log_sum_that_the_formula_does(dtype: torch.dtype) -> None:
    query, key, value = some(6, dtype), some(9, dtype), some(9, dtype)
    for ours, plain in zip(attend_with_log_sum(query, key, value), attend_plainly(query, key, value), strict=True):
        assert torch.allclose(ours.float(), plain.float(), atol=1e-5 if dtype is torch.float32 else 2e-2)
