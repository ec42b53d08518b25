"""Double-stream and single-stream blocks (model.md 7.1)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from hidream_edit.engine.model.attention import Attention, joined, without_pads
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
    """What all blocks of one forward need to know about the tokens."""

    rotation: Rotation  # of image tokens, pads, and the three rows of text
    pad_range: tuple[int, int] | None  # first pad token and the one after the last


def modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights, then ·(1 + scale) + shift."""
    normed = nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=LAYER_NORM_EPS)
    return normed * (1 + scale) + shift


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

    def forward(self, image: Tensor, text: Tensor, conditioning: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Image (batch, tokens, width), text (batch, rows, width), conditioning (batch, width)."""
        chunks = self.adaLN_modulation(conditioning)[:, None].chunk(12, dim=-1)
        of_image, of_text = Modulation(*chunks[:6]), Modulation(*chunks[6:])

        attention = self.attn1
        image_query, image_key, image_value = attention.project(
            modulated(image, of_image.attention_shift, of_image.attention_scale)
        )
        text_query, text_key, text_value = attention.project(
            modulated(text, of_text.attention_shift, of_text.attention_scale), "_t"
        )
        mixed = attention.mix(
            joined(image_query, text_query),
            joined(without_pads(image_key, layout.pad_range), text_key),
            joined(image_value, text_value),
            layout.rotation,
        )
        image_tokens = image.shape[1]
        image = image + of_image.attention_gate * attention.to_out(mixed[:, :image_tokens])
        text = text + of_text.attention_gate * attention.to_out_t(mixed[:, image_tokens:])

        image = image + of_image.feed_forward_gate * self.ff_i(
            modulated(image, of_image.feed_forward_shift, of_image.feed_forward_scale)
        )
        text = text + of_text.feed_forward_gate * self.ff_t(
            modulated(text, of_text.feed_forward_shift, of_text.feed_forward_scale)
        )
        return image, text


class SingleStreamBlock(nn.Module):
    """Image and text go through the same weights."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.adaLN_modulation = modulation_layer(width, 6)
        self.attn1 = Attention(width, config.num_attention_heads, with_text=False)
        self.ff_i = MixtureOfExperts(width, config.num_routed_experts, config.num_activated_experts)

    def forward(self, tokens: Tensor, conditioning: Tensor, layout: Layout) -> Tensor:
        """Tokens (batch, image + pads + text, width), conditioning (batch, width)."""
        of_all = Modulation(*self.adaLN_modulation(conditioning)[:, None].chunk(6, dim=-1))

        query, key, value = self.attn1.project(modulated(tokens, of_all.attention_shift, of_all.attention_scale))
        mixed = self.attn1.mix(query, without_pads(key, layout.pad_range), value, layout.rotation)
        tokens = tokens + of_all.attention_gate * self.attn1.to_out(mixed)
        fed: Tensor = self.ff_i(modulated(tokens, of_all.feed_forward_shift, of_all.feed_forward_scale))
        return tokens + of_all.feed_forward_gate * fed


class Block(nn.Module):
    """The layer of naming that the checkpoint puts around each block."""

    def __init__(self, block: DoubleStreamBlock | SingleStreamBlock) -> None:
        super().__init__()
        self.block = block
