"""What a computation needs beside its weights, in bytes, by arithmetic.

Each formula counts the tensors that are alive at the worst moment of the code that it stands for. Tests hold them
against runs in which every living tensor is counted: of small models on a CPU, and of the real size on torch's "meta"
device, which has shapes and no memory. What the kernels of a GPU take for themselves is not in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hidream_edit.engine.model.config import TransformerConfig, feed_forward_width

TEXTS_KEPT = 16  # embeddings that an engine keeps
STAGES_KEPT = 2  # stages whose projected texts it keeps


@dataclass(frozen=True, slots=True)
class TextSizes:
    """Sizes of a text encoder that its working memory depends on."""

    layers: int
    width: int
    hidden: int
    heads: int


def step_bytes(
    config: TransformerConfig, *, branches: int, image_tokens: int, rows: int, item: int, grouped: bool = False
) -> int:
    """One forward of the transformer with ``branches`` in a batch, its last block's experts being the worst moment.

    One by one, an expert is taken to be chosen by every token: which it is depends on the picture. ``grouped``, all
    experts work at once, on every token as often as it has experts.
    """
    tokens = branches * (image_tokens + 3 * rows)
    width, hidden = config.width, feed_forward_width(4 * config.width)
    streams = TOKENS_ALIVE * tokens * width * item
    experts = HIDDEN_ALIVE * tokens * hidden * item * (config.num_activated_experts if grouped else 1)
    rotation = 2 * (image_tokens + 3 * rows) * sum(config.axes_dims_rope) // 2 * 4
    modulation = 2 * branches * 12 * width * item
    routing = 4 * tokens * config.num_routed_experts * 8
    return streams + experts + rotation + modulation + routing


# Tokens in and out, what is added to them, and the inputs, outputs and products of the expert at work.
TOKENS_ALIVE, HIDDEN_ALIVE = 10, 3


def tokens_bytes(config: TransformerConfig, *, branches: int, rows: int, item: int) -> int:
    """Projected text of the stages that are kept, with what it was projected from."""
    projected = (config.block_count + 1) * config.width
    read = max(config.llama_layers) * config.caption_channels[1] + sum(config.caption_channels)
    return STAGES_KEPT * branches * rows * (projected + read) * item


def embeddings_bytes(config: TransformerConfig, *, llama_layers: int, rows: int, item: int) -> int:
    """Embeddings of the last texts."""
    t5, llama = config.caption_channels
    return TEXTS_KEPT * (rows * (t5 + llama_layers * llama) + config.text_emb_dim) * item


def text_bytes(sizes: TextSizes, *, rows: int, item: int) -> int:
    """One text through an encoder that gives all its layers away, which are kept one by one and then as one tensor."""
    layers = 2 * (sizes.layers + 1) * rows * sizes.width * item
    block = rows * (8 * sizes.width + 4 * sizes.hidden) * max(item, 4)
    attention = 4 * sizes.heads * rows * rows * 4
    return layers + block + attention


def autoencoder_bytes(channels: int, side: int, *, item: int) -> int:
    """A picture of ``side`` pixels squared through layers that are ``channels`` wide at full size."""
    return FEATURES_ALIVE * channels * side * side * item


# A layer's input, its normed form in float32, and its output, beside what a shortcut keeps.
FEATURES_ALIVE = 5
