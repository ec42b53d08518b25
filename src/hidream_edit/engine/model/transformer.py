"""The denoiser: a canvas of latents, a noise level and text in, a velocity (with the opposite sign) out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidream_edit.engine.model.attention import Attend, Pad, attend
from hidream_edit.engine.model.blocks import Block, DoubleStreamBlock, Layout, SingleStreamBlock
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.embedders import (
    CaptionProjection,
    FinalLayer,
    PatchEmbedder,
    PooledEmbedder,
    TimestepEmbedder,
)
from hidream_edit.engine.model.experts import MixtureOfExperts
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.patches import left_first, patches_of, picture_of
from hidream_edit.engine.model.product_attention import attend_by_products
from hidream_edit.engine.model.products import Linear
from hidream_edit.engine.model.rotation import canvas_rotation
from hidream_edit.engine.recent import Recent


class TextTokens(NamedTuple):
    """Text features, projected to the width of the network; the same in every step of an edit."""

    t5: Tensor  # (batch, rows, width)
    llama: tuple[Tensor, ...]  # one (batch, rows, width) per block

    def rows(self, index: Sequence[int]) -> TextTokens:
        """The batch rows ``index``, in that order."""
        chosen = list(index)
        return TextTokens(self.t5[chosen], tuple(layer[chosen] for layer in self.llama))


GEOMETRIES_KEPT = 4  # of the edit and the refine stage of two sizes


class Geometry(NamedTuple):
    """A canvas in tokens, of which the ones that hold noise come first."""

    rows: int
    columns: int
    noise_columns: int  # the ones on the left whose velocity is wanted
    pads: int  # tokens that upstream pads with
    order: Tensor  # reading-order index of each token
    layout: Layout

    @property
    def noise_tokens(self) -> int:
        return self.rows * self.noise_columns


class Modulations(NamedTuple):
    """What noise levels and pooled texts lead to, a row for each: (rows, …)."""

    conditioning: Tensor
    blocks: tuple[Tensor, ...]
    final: Tensor

    def rows(self, first: int, count: int) -> Modulations:
        """``count`` rows from ``first`` on."""
        some = slice(first, first + count)
        return Modulations(self.conditioning[some], tuple(block[some] for block in self.blocks), self.final[some])


class ForwardInputs(NamedTuple):
    """What a forward reads beside weights."""

    canvas: Tensor  # (batch, channels, rows, columns) of latents
    timesteps: Tensor  # (batch,) in 0…1000
    text: TextTokens  # one row per row of the batch
    pooled: Tensor  # (batch, text_emb_dim)
    noise_columns: int | None = None  # of latents, those on the left whose output is wanted; None: all
    modulations: Modulations | None = None  # those of ``timesteps`` and ``pooled``, where they are known already

    @property
    def columns_wanted(self) -> int:
        """``noise_columns``, as a number in any case."""
        return self.canvas.shape[-1] if self.noise_columns is None else self.noise_columns


class Given(NamedTuple):
    """What stays the same from the first block to the last."""

    text: TextTokens
    conditioning: Tensor  # (batch, width)
    geometry: Geometry
    modulations: Modulations | None = None  # where they were made ahead


class CanvasTooLarge(ValueError):
    """The canvas is not square and has more tokens than the model pads to."""


class Transformer(nn.Module):
    """HiDream image transformer; always in inference mode, the training-only paths of upstream do not exist here."""

    def __init__(self, config: TransformerConfig, measures: Measures = PLAIN) -> None:
        super().__init__()
        self.config = config
        self.measures = measures
        self.attend: Attend = attend_by_products if measures.onednn else attend
        self._geometries: Recent[tuple[object, ...], Geometry] = Recent(GEOMETRIES_KEPT)
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
        for module in self.modules():
            if isinstance(module, (Linear, MixtureOfExperts)):
                module.by_onednn = measures.onednn

    @property
    def blocks(self) -> list[DoubleStreamBlock | SingleStreamBlock]:
        """All of them, in their order."""
        return [each.block for each in (*self.double_stream_blocks, *self.single_stream_blocks)]

    def project_text(self, t5: Tensor, llama: Tensor) -> TextTokens:
        """T5 (batch, rows, t5 width) and Llama (layers, batch, rows, llama width) → tokens for every block."""
        projections = list(self.caption_projection)
        return TextTokens(
            projections[-1](t5),
            tuple(
                project(llama[layer]) for project, layer in zip(projections[:-1], self.config.llama_layers, strict=True)
            ),
        )

    def forward(self, inputs: ForwardInputs) -> Tensor:
        """The raw output (batch, channels, rows, wanted columns), whose negative is the velocity.

        Raises:
            CanvasTooLarge: the canvas does not fit the model.
        """
        tokens, given = self.enter(inputs)
        return self.leave(self.run(tokens, given), given)

    def enter(self, inputs: ForwardInputs) -> tuple[Tensor, Given]:
        """Tokens (batch, noise + source + pads + evolving text, width) in front of the first block.

        Raises:
            CanvasTooLarge: the canvas does not fit the model.
        """
        canvas, timesteps, text, pooled, _, modulations = inputs
        geometry = self._geometry(canvas, inputs.columns_wanted)
        patches = patches_of(canvas, self.config.patch_size).index_select(1, geometry.order)
        pads = geometry.layout.image_tokens - patches.shape[1]
        image = self.x_embedder(nn.functional.pad(patches, (0, 0, 0, pads)))
        conditioning = self._conditioning(timesteps, pooled) if modulations is None else modulations.conditioning
        tokens = torch.cat((image, text.t5, text.llama[-1]), dim=1)
        return tokens, Given(text, conditioning, geometry, modulations)

    def run(self, tokens: Tensor, given: Given, first: int = 0, last: int | None = None) -> Tensor:
        """The tokens behind block ``last``, which is not run, from those in front of block ``first``.

        Behind the very last block only the noise tokens are there.
        """
        blocks = self.blocks
        for index in range(first, len(blocks) if last is None else last):
            is_last = index == len(blocks) - 1
            wanted = given.geometry.noise_tokens if is_last else tokens.shape[1]
            computed = self.computed(index, given.geometry, tokens.shape[1])
            modulation = None if given.modulations is None else given.modulations.blocks[index]
            behind = blocks[index](
                tokens, given.text.llama[index], given.conditioning, given.geometry.layout, computed, modulation
            )
            tokens = behind[:, :wanted]
        return tokens

    def computed(self, index: int, geometry: Geometry, tokens: int) -> int | None:
        """How many of ``tokens`` block ``index`` computes; None: all of them, and its own text.

        Ranks that share a canvas ask this about one another (`hidream_edit.engine.parallel`).
        """
        blocks = self.blocks
        wanted = geometry.noise_tokens if index == len(blocks) - 1 else tokens
        return wanted if self.measures.trims and wanted >= blocks[index].fewest_wanted(geometry.layout) else None

    def leave(self, tokens: Tensor, given: Given) -> Tensor:
        """The output (batch, channels, rows, noise columns) from the tokens behind the last block."""
        geometry = given.geometry
        modulation = None if given.modulations is None else given.modulations.final
        patches = self.final_layer(tokens[:, : geometry.noise_tokens], given.conditioning, modulation)
        return picture_of(patches, geometry.rows, geometry.noise_columns, self.config.patch_size)

    def modulations(self, timesteps: Tensor, pooled: Tensor) -> Modulations:
        """Of each noise level (rows,) with its pooled text (rows, text_emb_dim), in one product per block."""
        conditioning = self._conditioning(timesteps, pooled)
        blocks = tuple(block.adaLN_modulation(conditioning) for block in self.blocks)
        return Modulations(conditioning, blocks, self.final_layer.adaLN_modulation(conditioning))

    def _conditioning(self, timesteps: Tensor, pooled: Tensor) -> Tensor:
        conditioning: Tensor = self.t_embedder(timesteps, pooled.dtype) + self.p_embedder(pooled)
        return conditioning

    def _geometry(self, canvas: Tensor, columns_wanted: int) -> Geometry:
        patch = self.config.patch_size
        rows, columns = canvas.shape[-2] // patch, canvas.shape[-1] // patch
        wanted = columns_wanted // patch

        def make() -> Geometry:
            pads = 0 if rows == columns else self.config.max_tokens - rows * columns
            if pads < 0:
                raise CanvasTooLarge(
                    f"a canvas of {rows * columns} tokens is more than the {self.config.max_tokens} of this model"
                )
            order = left_first(rows, columns, wanted)
            rotation = canvas_rotation(rows, columns, self.config.axes_dims_rope).rows(order).to(canvas.device)
            image_tokens = rows * columns
            computed = min(pads, 1) if self.measures.one_pad else pads
            pad_range = (image_tokens, image_tokens + computed) if pads else None
            pad = Pad(image_tokens, pads) if computed < pads else None
            layout = Layout(image_tokens + computed, rotation, self.attend, pad_range, pad)
            return Geometry(rows, columns, wanted, pads, order.to(canvas.device), layout)

        return self._geometries.get((rows, columns, wanted, canvas.device), make)
