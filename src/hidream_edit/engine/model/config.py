"""Hyper-parameters of the transformer, as its config.json spells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes of one transformer; model.md 2.1 has the real ones.

    Raises:
        ValueError: the numbers contradict one another.
    """

    in_channels: int
    out_channels: int
    patch_size: int
    num_layers: int  # double-stream blocks
    num_single_layers: int
    num_attention_heads: int
    attention_head_dim: int
    caption_channels: tuple[int, int]  # width of T5, width of Llama
    text_emb_dim: int  # width of the pooled embedding
    num_routed_experts: int
    num_activated_experts: int
    axes_dims_rope: tuple[int, ...]
    max_resolution: tuple[int, int]  # rows and columns of the canvas in latent pixels
    llama_layers: tuple[int, ...]  # which Llama layer feeds which block

    def __post_init__(self) -> None:
        if sum(self.axes_dims_rope) != self.attention_head_dim:
            raise ValueError(f"axes_dims_rope {self.axes_dims_rope} must add up to {self.attention_head_dim}")
        if any(dim % 2 for dim in self.axes_dims_rope) or len(self.axes_dims_rope) != 3:
            raise ValueError(f"axes_dims_rope {self.axes_dims_rope} must be three even numbers")
        if len(self.llama_layers) != self.block_count:
            raise ValueError(f"{len(self.llama_layers)} llama_layers do not feed {self.block_count} blocks")
        if not 1 <= self.num_activated_experts <= self.num_routed_experts:
            raise ValueError(f"cannot activate {self.num_activated_experts} of {self.num_routed_experts} experts")
        if self.in_channels != self.out_channels:
            raise ValueError(f"{self.in_channels} channels in but {self.out_channels} out")

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> TransformerConfig:
        """Read the keys of a config.json; keys of the library's own book-keeping are ignored.

        Raises:
            ValueError: a key is missing or contradicts another.
        """
        in_channels = config.get("in_channels", 64)
        try:
            return cls(
                in_channels=in_channels,
                out_channels=config.get("out_channels") or in_channels,
                patch_size=config["patch_size"],
                num_layers=config["num_layers"],
                num_single_layers=config["num_single_layers"],
                num_attention_heads=config["num_attention_heads"],
                attention_head_dim=config["attention_head_dim"],
                caption_channels=(config["caption_channels"][0], config["caption_channels"][1]),
                text_emb_dim=config["text_emb_dim"],
                num_routed_experts=config["num_routed_experts"],
                num_activated_experts=config["num_activated_experts"],
                axes_dims_rope=tuple(config["axes_dims_rope"]),
                max_resolution=(config["max_resolution"][0], config["max_resolution"][1]),
                llama_layers=tuple(config["llama_layers"]),
            )
        except KeyError as missing:
            raise ValueError(f"the transformer config lacks {missing}") from missing

    @property
    def width(self) -> int:
        """Channels of a token inside the network."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def block_count(self) -> int:
        """Double-stream plus single-stream blocks."""
        return self.num_layers + self.num_single_layers

    @property
    def max_tokens(self) -> int:
        """Length to which the tokens of a canvas that is not square are padded (max_seq upstream)."""
        return self.max_resolution[0] * self.max_resolution[1] // self.patch_size**2


def feed_forward_width(nominal: int) -> int:
    """Hidden width of a gated feed-forward: two thirds, rounded down, then up to a multiple of 256 (model.md 7.1)."""
    return -(-(2 * nominal // 3) // 256) * 256
