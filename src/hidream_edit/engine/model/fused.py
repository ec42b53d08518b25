"""Products that read the same rows as one product: Q, K and V; W1 and W3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_edit.engine.model.attention import Attention
from hidream_edit.engine.model.experts import FeedForward
from hidream_edit.engine.model.products import multiply

# Where fewer of the queries are wanted, leaving out the others saves more than one product for all three does.
SHARE_OF_QUERIES_MIN = 0.9


def gated(both: Tensor) -> Tensor:
    """SiLU(W1 x) ⊙ W3 x from the output (…, 2·hidden) of the product with both."""
    gate, up = both.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)  # over all slots of all experts this is the most that a step holds


class FusedFeedForward(nn.Module):
    """W2(SiLU(W1 x) ⊙ W3 x) with W1 on top of W3."""

    def __init__(self, plain: FeedForward) -> None:
        super().__init__()
        self.w13 = frozen(torch.cat((plain.w1.weight, plain.w3.weight)))
        self.w2 = frozen(plain.w2.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return multiply(gated(multiply(tokens, self.w13)), self.w2)


class FusedAttention(Attention):
    """`Attention` with the weights of Q, K and V on top of one another."""

    def __init__(self, plain: Attention) -> None:
        nn.Module.__init__(self)
        self.heads = plain.heads
        self.suffixes = ("", "_t") if hasattr(plain, "to_q_t") else ("",)
        for suffix in self.suffixes:
            for kind in ("weight", "bias"):
                parts: list[Tensor] = [
                    plain.get_parameter(f"{name}{suffix}.{kind}") for name in ("to_q", "to_k", "to_v")
                ]
                self.register_parameter(f"qkv_{kind}{suffix}", frozen(torch.cat(parts)))
            for name in ("to_out", "q_rms_norm", "k_rms_norm"):
                setattr(self, name + suffix, plain.get_submodule(name + suffix))

    def project(self, tokens: Tensor, suffix: str = "", *, wanted: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention.project`."""
        weight, bias = self.get_parameter("qkv_weight" + suffix), self.get_parameter("qkv_bias" + suffix)
        width, rows = weight.shape[1], tokens.shape[1]
        if wanted is None or wanted >= SHARE_OF_QUERIES_MIN * rows:
            query, key, value = multiply(tokens, weight, bias).chunk(3, dim=-1)
            return self._normed(query[:, :wanted], key, value, suffix)
        query = multiply(tokens[:, :wanted], weight[:width], bias[:width])
        key, value = multiply(tokens, weight[width:], bias[width:]).chunk(2, dim=-1)
        return self._normed(query, key, value, suffix)


def frozen(weight: Tensor) -> nn.Parameter:
    """A parameter that is never trained."""
    return nn.Parameter(weight.detach(), requires_grad=False)
