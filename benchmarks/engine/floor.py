"""What a forward of the transformer has to compute, and how fast this machine does nothing but that (model.md 13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from benchmarks.engine.clock import Clock

from hidream_edit.engine.model.config import TransformerConfig, feed_forward_width
from hidream_edit.engine.model.product_attention import attend_by_products
from hidream_edit.engine.model.products import onednn_is_here, product

CEILING_FLOPS = 790e12  # dense bf16 products on an H200, as model.md 13 takes it
FOURIER_CHANNELS = 256
TRIES = 2


@dataclass(frozen=True, slots=True)
class Product:
    """Rows (rows, inputs) times a weight (inputs, outputs)."""

    rows: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Two per multiply-add."""
        return 2 * self.rows * self.inputs * self.outputs

    def operation(self, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], ...]:
        """The ways to compute it; which is faster depends on the shape."""
        rows = torch.randn(self.rows, self.inputs).to(device, dtype)
        weight = torch.randn(self.outputs, self.inputs).to(device, dtype)
        turned = weight.t().contiguous()
        plain = (lambda: F.linear(rows, weight)), (lambda: rows @ turned)
        return (*plain, lambda: product(rows, weight)) if _by_onednn(device, dtype) else plain


@dataclass(frozen=True, slots=True)
class Mixing:
    """Attention of ``tokens`` over themselves: scores and values."""

    batch: int
    heads: int
    tokens: int
    channels: int

    @property
    def flops(self) -> int:
        return 4 * self.batch * self.heads * self.tokens**2 * self.channels

    def operation(self, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], ...]:
        shape = (self.batch, self.heads, self.tokens, self.channels)
        query, key, value = (torch.randn(shape).to(device, dtype) for _ in range(3))
        plain = ((lambda: F.scaled_dot_product_attention(query, key, value)),)
        return (*plain, lambda: attend_by_products(query, key, value)) if _by_onednn(device, dtype) else plain


def _by_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype == torch.float32 and onednn_is_here()


Work = dict[str, Counter[Product | Mixing]]  # part → operations and how often each runs


def work_of_forward(config: TransformerConfig, *, image_tokens: int, text_rows: int, branches: int) -> Work:
    """All products of one forward as published, with ``branches`` in a batch and experts chosen evenly.

    ``image_tokens`` counts pads too; ``text_rows`` is the length of one text, of which each block reads three.
    """
    width, rows = config.width, 3 * text_rows
    tokens = image_tokens + rows
    doubles, singles = config.num_layers, config.num_single_layers
    work: Work = {part: Counter() for part in ("experts", "attention", "projections", "text", "captions", "rest")}

    def gated(part: str, count: int, each: int, hidden: int) -> None:
        work[part][Product(each, width, hidden)] += 2 * count
        work[part][Product(each, hidden, width)] += count

    for blocks, seen in ((doubles, image_tokens), (singles, tokens)):
        fed = branches * seen
        routed = fed * config.num_activated_experts // config.num_routed_experts
        gated("experts", blocks * config.num_routed_experts, routed, feed_forward_width(4 * width))
        gated("experts", blocks, fed, feed_forward_width(2 * width))
        work["rest"][Product(fed, width, config.num_routed_experts)] += blocks
        work["projections"][Product(fed, width, width)] += 4 * blocks
    work["projections"][Product(branches * rows, width, width)] += 4 * doubles
    gated("text", doubles, branches * rows, feed_forward_width(4 * width))
    heads = Mixing(branches, config.num_attention_heads, tokens, config.attention_head_dim)
    work["attention"][heads] += config.block_count

    t5_width, llama_width = config.caption_channels
    work["captions"][Product(branches * text_rows, t5_width, width)] += 1
    work["captions"][Product(branches * text_rows, llama_width, width)] += config.block_count
    patch = config.in_channels * config.patch_size**2
    work["rest"][Product(branches * image_tokens, patch, width)] += 1
    work["rest"][Product(branches * image_tokens, width, patch)] += 1
    work["rest"][Product(branches, width, 12 * width)] += doubles
    work["rest"][Product(branches, width, 6 * width)] += singles
    work["rest"][Product(branches, width, 2 * width)] += 1
    for inputs in (FOURIER_CHANNELS, config.text_emb_dim):
        work["rest"][Product(branches, inputs, width)] += 1
        work["rest"][Product(branches, width, width)] += 1
    return work


def flops_of(work: Work) -> dict[str, int]:
    """FLOPs of each part."""
    return {part: sum(one.flops * count for one, count in operations.items()) for part, operations in work.items()}


@torch.inference_mode()
def measured_seconds(work: Work, device: torch.device, dtype: torch.dtype, clock: Clock) -> dict[str, float]:
    """Seconds that each part takes where nothing else is done, from the machine's own rate at each shape."""
    distinct = {one for operations in work.values() for one in operations}
    seconds = {one: _fastest(one.operation(device, dtype), clock) for one in distinct}
    return {part: sum(seconds[one] * count for one, count in operations.items()) for part, operations in work.items()}


def _fastest(ways: Iterable[Callable[[], object]], clock: Clock) -> float:
    best = float("inf")
    for way in ways:
        way()
        for _ in range(TRIES):
            began = clock()
            way()
            best = min(best, clock() - began)
    return best
