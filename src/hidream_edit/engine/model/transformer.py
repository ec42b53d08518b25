"""The denoiser: a canvas of latents, a noise level and text in, a velocity (with the opposite sign) out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hidream_edit.engine.model.blocks import Block, DoubleStreamBlock, Layout, SingleStreamBlock
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.embedders import (
    CaptionProjection,
    FinalLayer,
    PatchEmbedder,
    PooledEmbedder,
    TimestepEmbedder,
)
from hidream_edit.engine.model.patches import patches_of, picture_of
from hidream_edit.engine.model.rotation import canvas_ids, rotation_of_ids


class TextTokens(NamedTuple):
    """Text features, projected to the width of the network; the same in every step of an edit."""

    t5: Tensor  # (batch, rows, width)
    llama: tuple[Tensor, ...]  # one (batch, rows, width) per block

    def rows(self, index: Sequence[int]) -> TextTokens:
        """The batch rows ``index``, in that order."""
        chosen = list(index)
        return TextTokens(self.t5[chosen], tuple(layer[chosen] for layer in self.llama))


class CanvasTooLarge(ValueError):
    """The canvas is not square and has more tokens than the model pads to."""


class Transformer(nn.Module):
    """HiDream image transformer; always in inference mode, the training-only paths of upstream do not exist here."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        patch_channels = config.in_channels * config.patch_size**2
        self.x_embedder = PatchEmbedder(patch_channels, width)
        self.t_embedder = TimestepEmbedder(width)
        self.p_embedder = PooledEmbedder(config.text_emb_dim, width)
        t5_width, llama_width = config.caption_channels
        self.caption_projection = nn.ModuleList(
            [CaptionProjection(llama_width, width) for _ in range(config.block_count)]
            + [CaptionProjection(t5_width, width)]
        )
        self.double_stream_blocks = nn.ModuleList(Block(DoubleStreamBlock(config)) for _ in range(config.num_layers))
        self.single_stream_blocks = nn.ModuleList(
            Block(SingleStreamBlock(config)) for _ in range(config.num_single_layers)
        )
        self.final_layer = FinalLayer(width, patch_channels)

    @staticmethod
    def _wrapped(blocks: nn.ModuleList) -> Iterator[Any]:
        return (block.block for block in blocks)

    def project_text(self, t5: Tensor, llama: Tensor) -> TextTokens:
        """T5 (batch, rows, t5 width) and Llama (layers, batch, rows, llama width) → tokens for every block."""
        projections = list(self.caption_projection)
        return TextTokens(
            projections[-1](t5),
            tuple(
                project(llama[layer]) for project, layer in zip(projections[:-1], self.config.llama_layers, strict=True)
            ),
        )

    def forward(self, canvas: Tensor, timesteps: Tensor, text: TextTokens, pooled: Tensor) -> Tensor:
        """Canvas (batch, channels, rows, columns), timesteps (batch,) in 0…1000, pooled (batch, text_emb_dim).

        Returns the raw output in the canvas's shape; the velocity is its negative.

        Raises:
            CanvasTooLarge: the canvas does not fit the model.
        """
        patch = self.config.patch_size
        rows, columns = canvas.shape[-2] // patch, canvas.shape[-1] // patch
        patches = patches_of(canvas, patch)
        image_tokens = patches.shape[1]
        pads = 0
        if rows != columns:
            pads = self.config.max_tokens - image_tokens
            if pads < 0:
                raise CanvasTooLarge(
                    f"a canvas of {image_tokens} tokens is more than the {self.config.max_tokens} of this model"
                )
            patches = nn.functional.pad(patches, (0, 0, 0, pads))

        image = self.x_embedder(patches)
        conditioning = self.t_embedder(timesteps, image.dtype) + self.p_embedder(pooled)
        evolving = torch.cat((text.t5, text.llama[-1]), dim=1)
        text_rows = evolving.shape[1] + text.llama[-1].shape[1]
        rotation = rotation_of_ids(canvas_ids(rows, columns, others=pads + text_rows), self.config.axes_dims_rope)
        layout = Layout(
            type(rotation)(*(table.to(image.device) for table in rotation)),
            (image_tokens, image_tokens + pads) if pads else None,
        )

        per_block = iter(text.llama)
        for block in self._wrapped(self.double_stream_blocks):
            all_text = torch.cat((evolving, next(per_block)), dim=1)
            image, all_text = block(image, all_text, conditioning, layout)
            evolving = all_text[:, : evolving.shape[1]]
        tokens = torch.cat((image, evolving), dim=1)
        for block in self._wrapped(self.single_stream_blocks):
            all_tokens = torch.cat((tokens, next(per_block)), dim=1)
            tokens = block(all_tokens, conditioning, layout)[:, : tokens.shape[1]]
        return picture_of(self.final_layer(tokens[:, :image_tokens], conditioning), rows, columns, patch)
