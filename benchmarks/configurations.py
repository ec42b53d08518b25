"""Transformers that fit where the real one does not."""

from __future__ import annotations

from dataclasses import replace

from hidream_edit.engine.memory.sizes import REAL_CONFIG

# A fifth of the real width and an eighth of its blocks, at its own number of tokens.
MID_CONFIG = replace(
    REAL_CONFIG,
    num_layers=2,
    num_single_layers=4,
    num_attention_heads=4,
    caption_channels=(256, 256),
    text_emb_dim=256,
    llama_layers=(0, 1, 2, 3, 3, 3),
)
