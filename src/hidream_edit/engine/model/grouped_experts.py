"""Mixture of experts without asking the host which expert has how many tokens (model.md 14).

Slots, one per token and chosen expert, are sorted by expert on the device; grouped products then take all experts at
once. Nothing depends on how many tokens an expert has, so the device never waits for the host, and the whole block can
be compiled or recorded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_edit.engine.model.experts import Gate, MixtureOfExperts
from hidream_edit.engine.model.fused import FusedFeedForward, frozen, gated


class GroupedExperts(nn.Module):
    """`MixtureOfExperts` with the weights of all experts in two tensors."""

    def __init__(self, plain: MixtureOfExperts) -> None:
        super().__init__()
        self.gate: Gate = plain.gate
        self.shared_experts = FusedFeedForward(plain.shared_experts)
        w1, w2, w3 = (
            torch.stack([expert.get_parameter(f"{name}.weight") for expert in plain.experts])
            for name in ("w1", "w2", "w3")
        )
        self.w13 = frozen(torch.cat((w1, w3), dim=1))
        self.w2 = frozen(w2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) → the same shape."""
        flat = tokens.flatten(0, -2)
        probabilities, chosen = self.gate(flat)
        active = chosen.shape[1]
        expert_of_slot = chosen.flatten()
        slots = expert_of_slot.argsort(stable=True)
        counts = torch.zeros(len(self.w2), dtype=torch.int32, device=flat.device)
        counts = counts.scatter_add(0, expert_of_slot, torch.ones_like(expert_of_slot, dtype=torch.int32))
        ends = counts.cumsum(0, dtype=torch.int32)
        hidden = gated(_grouped(flat.index_select(0, slots // active), self.w13, ends))
        fed = _grouped(hidden, self.w2, ends)
        # Back in the order of the tokens, so that the sum over a token's experts has one order.
        places = torch.empty_like(slots).scatter_(0, slots, torch.arange(len(slots), device=slots.device))
        by_token = fed.index_select(0, places).view(*chosen.shape, -1)
        routed = (by_token * probabilities[..., None]).sum(dim=1)
        mixed: Tensor = routed.view_as(tokens) + self.shared_experts(tokens)
        return mixed


def _grouped(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """The rows up to each of ``ends`` times the weight of that expert (outputs, inputs), widened as in `multiply`."""
    return F.grouped_mm(rows, weights.to(rows.dtype).transpose(1, 2), offs=ends)
