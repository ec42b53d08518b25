"""Attention that also tells the log-sum-exp of its logits, by which what several sets of keys give is merged."""

from __future__ import annotations

import torch
from torch import Tensor


def attend_with_log_sum(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(QKᵀ/√channels)·V over (batch, heads, tokens, channels), and the log-sum-exp of the logits, float32
    (batch, heads, queries).

    The public function gives no log-sum-exp, so the kernels behind it are called by name.
    """
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[:2]  # type: ignore[no-any-return]  # noqa: SLF001
    if query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16):
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[:2]  # type: ignore[no-any-return]  # noqa: SLF001
    if query.device.type == "cuda":
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention  # noqa: SLF001
        read, log_sum, *_ = kernel(query, key, value, None, True)
        return read, log_sum[:, :, : query.shape[2]]  # the kernel rounds the number of queries up
    return attend_plainly(query, key, value)


def attend_plainly(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The same, written out."""
    logits = (query.float() @ key.float().transpose(-1, -2)) * query.shape[-1] ** -0.5
    log_sum = torch.logsumexp(logits, dim=-1)
    return ((logits - log_sum[..., None]).exp() @ value.float()).to(value.dtype), log_sum
