"""Gated feed-forward, and the mixture of experts made of it (model.md 7.1)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_edit.engine.model.config import feed_forward_width
from hidream_edit.engine.model.products import Linear, product

ROWS_AT_ONCE, ROWS_MULTIPLE = 512, 64


class FeedForward(nn.Module):
    """W2(SiLU(W1 x) ⊙ W3 x) without biases."""

    def __init__(self, width: int, nominal: int) -> None:
        super().__init__()
        hidden = feed_forward_width(nominal)
        self.w1 = Linear(width, hidden, bias=False)
        self.w2 = Linear(hidden, width, bias=False)
        self.w3 = Linear(width, hidden, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.w1.by_onednn:
            hidden = product(tokens, self.w3.weight).mul_(product(tokens, self.w1.weight, then="swish"))
        else:
            hidden = F.silu(self.w1(tokens)) * self.w3(tokens)
        fed: Tensor = self.w2(hidden)
        return fed


class Gate(nn.Module):
    """Chooses the experts of each token."""

    def __init__(self, width: int, expert_count: int, active_count: int) -> None:
        super().__init__()
        self.active_count = active_count
        self.weight = nn.Parameter(torch.empty(expert_count, width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and indices (tokens, active) of the experts chosen for ``tokens`` (tokens, width).

        The softmax runs over all experts in the compute dtype, as upstream, and is not renormalised over the chosen.
        """
        probabilities = F.linear(tokens, self.weight).softmax(dim=-1)
        return torch.topk(probabilities, self.active_count, dim=-1, sorted=False)


class MixtureOfExperts(nn.Module):
    """Σ p_e·E_e(x) over the chosen experts, plus an expert that every token shares. No token is ever dropped."""

    by_onednn = False

    def __init__(self, width: int, expert_count: int, active_count: int) -> None:
        super().__init__()
        self.shared_experts = FeedForward(width, 2 * width)
        self.experts = nn.ModuleList(FeedForward(width, 4 * width) for _ in range(expert_count))
        self.gate = Gate(width, expert_count, active_count)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) → the same shape."""
        flat = tokens.flatten(0, -2)
        probabilities, chosen = self.gate(flat)
        mixed: Tensor = self.shared_experts(flat)
        for index, expert in enumerate(self.experts):
            rows, places = torch.nonzero(chosen == index, as_tuple=True)
            if len(rows) == 0:
                continue
            weights = probabilities[rows, places, None]
            # A token meets an expert at most once, so no row is written twice and the sum has one order.
            for some, its_weights, padding in self._pieces(rows, weights):
                read = F.pad(some, (0, padding))
                mixed.index_add_(0, some, expert(flat.index_select(0, read))[: len(some)] * its_weights)
        return mixed.view_as(tokens)

    def _pieces(self, rows: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
        """The rows of an expert, their weights, and how many rows to add that nobody reads.

        oneDNN makes and keeps a kernel for each number of rows, about a millisecond and a megabyte; an expert has
        another number in every step. So it gets pieces of a few sizes.
        """
        if not self.by_onednn:
            yield rows, weights, 0
            return
        for some, its_weights in zip(torch.split(rows, ROWS_AT_ONCE), torch.split(weights, ROWS_AT_ONCE), strict=True):
            yield some, its_weights, -len(some) % ROWS_MULTIPLE
