"""Double-stream and single-stream blocks (model.md 7.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidream_edit.engine.model.attention import Attend, Attention, Pad, joined, without_pads
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.experts import FeedForward, MixtureOfExperts
from hidream_edit.engine.model.rotation import Rotation

LAYER_NORM_EPS = 1e-6


class Modulation(NamedTuple):
    """One stream's shifts, scales and gates, in the checkpoint's order, each (batch, 1, width)."""

    attention_shift: Tensor
    attention_scale: Tensor
    attention_gate: Tensor
    feed_forward_shift: Tensor
    feed_forward_scale: Tensor
    feed_forward_gate: Tensor


class Layout(NamedTuple):
    """What all blocks of one forward need to know about the tokens: image, pads, and text at the end."""

    image_tokens: int  # with pads
    rotation: Rotation  # of the image tokens
    attend: Attend
    pad_range: tuple[int, int] | None = None  # first pad token and the one after the last
    pad: Pad | None = None  # the one that is computed for all of them


def modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights, then ·(1 + scale) + shift."""
    if len(tokens) == 1 and not torch.is_grad_enabled():
        # One sample's scale and shift are the weights that the norm has not: one pass over the tokens, not three.
        return nn.functional.layer_norm(tokens, tokens.shape[-1:], 1 + scale[0, 0], shift[0, 0], LAYER_NORM_EPS)
    normed = nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=LAYER_NORM_EPS)
    return torch.addcmul(shift, normed, 1 + scale)


def modulation_layer(width: int, chunks: int) -> nn.Sequential:
    """The layer whose parameters the checkpoint calls ``adaLN_modulation.1``."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, chunks * width))


class DoubleStreamBlock(nn.Module):
    """Image and text have weights of their own and meet in the attention."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.adaLN_modulation = modulation_layer(width, 12)
        self.attn1 = Attention(width, config.num_attention_heads, with_text=True)
        self.ff_i = MixtureOfExperts(width, config.num_routed_experts, config.num_activated_experts)
        self.ff_t = FeedForward(width, 4 * width)

    def fewest_wanted(self, layout: Layout) -> int:
        """Of image tokens it cannot compute a part."""
        return layout.image_tokens

    def forward(
        self,
        tokens: Tensor,
        own_text: Tensor,
        conditioning: Tensor,
        layout: Layout,
        wanted: int | None = None,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """The first ``wanted`` tokens, one block later; by default all of them and the block's own text.

        Args:
            tokens: (batch, image + pads + evolving text, width).
            own_text: (batch, rows, width), which only this block reads.
            conditioning: (batch, width).
            layout: where the tokens are.
            wanted: no fewer than the image tokens.
            modulation: what this block makes of the conditioning (batch, 12·width), where that is known already.
        """
        modulation = self.adaLN_modulation(conditioning) if modulation is None else modulation
        chunks = modulation[:, None].chunk(12, dim=-1)
        of_image, of_text = Modulation(*chunks[:6]), Modulation(*chunks[6:])
        image, evolving = tokens[:, : layout.image_tokens], tokens[:, layout.image_tokens :]
        text = joined(evolving, own_text)
        wanted_text = text.shape[1] if wanted is None else wanted - layout.image_tokens

        attention = self.attn1
        image_query, image_key, image_value = attention.project(
            modulated(image, of_image.attention_shift, of_image.attention_scale)
        )
        text_query, text_key, text_value = attention.project(
            modulated(text, of_text.attention_shift, of_text.attention_scale), "_t", wanted=wanted_text
        )
        mixed = attention.mix(
            joined(image_query, text_query),
            joined(without_pads(image_key, layout.pad_range), text_key),
            joined(image_value, text_value),
            rotation=layout.rotation,
            pad=layout.pad,
            by=layout.attend,
        )
        image_read, text_read = mixed[:, : layout.image_tokens], mixed[:, layout.image_tokens :]
        image = torch.addcmul(image, of_image.attention_gate, attention.to_out(image_read))
        text = torch.addcmul(text[:, :wanted_text], of_text.attention_gate, attention.to_out_t(text_read))

        fed_image = self.ff_i(modulated(image, of_image.feed_forward_shift, of_image.feed_forward_scale))
        fed_text = self.ff_t(modulated(text, of_text.feed_forward_shift, of_text.feed_forward_scale))
        return joined(
            torch.addcmul(image, of_image.feed_forward_gate, fed_image),
            torch.addcmul(text, of_text.feed_forward_gate, fed_text),
        )


class SingleStreamBlock(nn.Module):
    """Image and text go through the same weights."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.adaLN_modulation = modulation_layer(width, 6)
        self.attn1 = Attention(width, config.num_attention_heads, with_text=False)
        self.ff_i = MixtureOfExperts(width, config.num_routed_experts, config.num_activated_experts)

    def fewest_wanted(self, layout: Layout) -> int:
        """It takes any number."""
        del layout
        return 0

    def forward(
        self,
        tokens: Tensor,
        own_text: Tensor,
        conditioning: Tensor,
        layout: Layout,
        wanted: int | None = None,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """As `DoubleStreamBlock.forward`; ``wanted`` may be any number of tokens."""
        modulation = self.adaLN_modulation(conditioning) if modulation is None else modulation
        of_all = Modulation(*modulation[:, None].chunk(6, dim=-1))
        tokens = joined(tokens, own_text)

        query, key, value = self.attn1.project(
            modulated(tokens, of_all.attention_shift, of_all.attention_scale), wanted=wanted
        )
        mixed = self.attn1.mix(
            query,
            without_pads(key, layout.pad_range),
            value,
            rotation=layout.rotation,
            pad=layout.pad,
            by=layout.attend,
        )
        tokens = torch.addcmul(tokens[:, :wanted], of_all.attention_gate, self.attn1.to_out(mixed))
        fed = self.ff_i(modulated(tokens, of_all.feed_forward_shift, of_all.feed_forward_scale))
        return torch.addcmul(tokens, of_all.feed_forward_gate, fed)


class Block(nn.Module):
    """The layer of naming that the checkpoint puts around each block."""

    def __init__(self, block: DoubleStreamBlock | SingleStreamBlock) -> None:
        super().__init__()
        self.block = block
