"""The layers of a loaded transformer replaced by those that its measures ask for."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn

from hidream_edit.engine.model.attention import Attention
from hidream_edit.engine.model.experts import FeedForward, MixtureOfExperts
from hidream_edit.engine.model.fused import FusedAttention, FusedFeedForward
from hidream_edit.engine.model.grouped_experts import GroupedExperts
from hidream_edit.engine.model.transformer import Transformer


def rebuild(transformer: Transformer) -> Transformer:
    """Replace and compile what ``transformer.measures`` name, block by block, so that no more than one is there twice.

    The names of the weights change with it: it comes after loading, and before blocks are streamed.
    """
    measures = transformer.measures
    for block in transformer.blocks:
        if measures.fused or measures.grouped:
            _replace(block, fused=measures.fused, grouped=measures.grouped)
        if measures.compiled:
            # The method and not the module, whose hooks bring the weights of streamed blocks.
            block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False)  # type: ignore[method-assign]
    return transformer


def _replace(module: nn.Module, *, fused: bool, grouped: bool) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, MixtureOfExperts) and grouped:
            setattr(module, name, GroupedExperts(child))
        elif isinstance(child, Attention) and fused:
            setattr(module, name, FusedAttention(child))
        elif isinstance(child, FeedForward) and fused:
            setattr(module, name, FusedFeedForward(child))
        else:
            _replace(child, fused=fused, grouped=grouped)


@functools.cache
def grouped_products_work(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether grouped products run on this device and give what single ones give."""
    rows = torch.arange(32 * 16, device=device, dtype=dtype).view(32, 16) / 512
    weights = torch.arange(2 * 16 * 16, device=device, dtype=dtype).view(2, 16, 16) / 512
    ends = torch.tensor([8, 32], dtype=torch.int32, device=device)
    try:
        together = F.grouped_mm(rows, weights.transpose(1, 2), offs=ends)
    except (AttributeError, RuntimeError):
        return False
    alone = torch.cat((F.linear(rows[:8], weights[0]), F.linear(rows[8:], weights[1])))
    return bool(torch.allclose(together.float(), alone.float(), rtol=0.02, atol=0.02))
