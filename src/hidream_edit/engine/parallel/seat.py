"""What every rank of a group does, rank 0 among them: its part of each forward of the transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from hidream_edit.engine.memory.activations import STAGES_KEPT
from hidream_edit.engine.model.patches import patches_of, picture_of
from hidream_edit.engine.model.transformer import ForwardInputs, Geometry, TextTokens, Transformer
from hidream_edit.engine.parallel.links import World
from hidream_edit.engine.parallel.mesh import Team, part_of
from hidream_edit.engine.parallel.shares import Shares, text_share
from hidream_edit.engine.recent import Recent

SHARES_KEPT = 8


@dataclass(frozen=True, slots=True)
class TextOrder:
    """Shapes of a text that is about to be told: rows of the batch, tokens, width."""

    t5: tuple[int, ...]
    llama: tuple[tuple[int, ...], ...]  # one per block
    pooled: tuple[int, ...]

    @classmethod
    def of(cls, text: TextTokens, pooled: Tensor) -> Self:
        return cls(tuple(text.t5.shape), tuple(tuple(layer.shape) for layer in text.llama), tuple(pooled.shape))


@dataclass(frozen=True, slots=True)
class Order:
    """One forward: everything about it but its tensors."""

    which: int  # of the transformers: that of the edit stage, or of the refine stage
    text: int  # number of the text
    new_text: TextOrder | None  # it is told now
    canvas: tuple[int, ...]
    noise_columns: int
    dtype: str

    def as_json(self) -> dict[str, Any]:
        text = self.new_text
        told = None if text is None else {"t5": text.t5, "llama": text.llama, "pooled": text.pooled}
        return {
            "which": self.which,
            "text": self.text,
            "new_text": told,
            "canvas": self.canvas,
            "noise_columns": self.noise_columns,
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        text = told["new_text"]
        if text is not None:
            text = TextOrder(tuple(text["t5"]), tuple(map(tuple, text["llama"])), tuple(text["pooled"]))
        return cls(**told | {"new_text": text, "canvas": tuple(told["canvas"])})


class OwnText(NamedTuple):
    """A rank's part of a text."""

    text: TextTokens
    pooled: Tensor
    counts: tuple[int, int, int]  # of all tokens: T5, Llama, each block's own


class Seat:
    """A rank's place: its transformers, its links, what it keeps from step to step."""

    def __init__(self, world: World, transformers: Sequence[Transformer]) -> None:
        self.world, self.transformers = world, list(transformers)
        self._texts: Recent[int, OwnText | None] = Recent(STAGES_KEPT)
        self._shares: Recent[tuple[object, ...], Shares] = Recent(SHARES_KEPT)

    def take_part(self, order: Order, inputs: tuple[Tensor, Tensor], text: tuple[TextTokens, Tensor] | None) -> Tensor:
        """The output (batch, channels, rows, noise columns), whole on every rank.

        Args:
            order: the same on all ranks.
            inputs: canvas (batch, channels, rows, columns) and timesteps (batch,); rank 0's count.
            text: on rank 0, the text and its pooled rows.
        """
        canvas, timesteps = (self.world.tell(tensor) for tensor in inputs)
        team = self.world.team(len(canvas))
        own_text = self._texts.get(order.text, lambda: self._told(order, team, text))
        config = self.transformers[order.which].config
        rows, columns = canvas.shape[-2] // config.patch_size, order.noise_columns // config.patch_size
        numbers = config.in_channels * config.patch_size**2
        mine = canvas.new_empty(0)
        if team is not None and own_text is not None:
            mine = self._part(order, team, own_text, canvas, timesteps)
        teams = self.world.teams[len(canvas)]
        counts = [0] * self.world.ranks
        for each in teams:
            for position, rank in enumerate(each.ranks):
                counts[rank] = len(each.rows) * len(part_of(rows * columns, each.size, position)) * numbers
        gathered = self.world.gather(mine, counts)
        patches = torch.cat(
            [
                torch.cat([gathered[rank].view(len(each.rows), -1, numbers) for rank in each.ranks], dim=1)
                for each in teams
            ]
        )
        return picture_of(patches, rows, columns, config.patch_size)

    def _part(self, order: Order, team: Team, own: OwnText, canvas: Tensor, timesteps: Tensor) -> Tensor:
        """This rank's patches (rows of its team, its noise tokens, numbers of a patch)."""
        transformer = self.transformers[order.which]
        canvas, timesteps = (tensor[team.rows.start : team.rows.stop] for tensor in (canvas, timesteps))
        inputs = ForwardInputs(canvas, timesteps, own.text, own.pooled, order.noise_columns)
        if team.size == 1:
            return patches_of(transformer(inputs), transformer.config.patch_size)
        tokens, given = transformer.enter(inputs)

        def make() -> Shares:
            geometry: Geometry = given.geometry
            return Shares(transformer, geometry, own.counts, self.world.links(team))

        key = (order.which, team.ranks, canvas.shape, order.noise_columns, own.counts)
        return self._shares.get(key, make).run(transformer, tokens, given)

    def _told(self, order: Order, team: Team | None, text: tuple[TextTokens, Tensor] | None) -> OwnText | None:
        """Tell, or be told, a new text; keep what this rank reads of it."""
        shapes, dtype, device = order.new_text, getattr(torch, order.dtype), self.world.device
        if shapes is None:
            raise RuntimeError(f"text {order.text} was told before and is not here")

        def told(mine: Tensor | None, shape: tuple[int, ...]) -> Tensor:
            if mine is None:
                mine = torch.empty(shape, dtype=dtype, device=device)
            return self.world.tell(mine.contiguous())

        here = None if text is None else text[0]
        whole = TextTokens(
            told(here and here.t5, shapes.t5),
            tuple(told(here and here.llama[block], shape) for block, shape in enumerate(shapes.llama)),
        )
        pooled = told(text and text[1], shapes.pooled)
        if team is None:
            return None
        position = team.ranks.index(self.world.rank)
        counts = (shapes.t5[1], shapes.llama[-1][1], shapes.llama[0][1])
        own_rows = pooled[team.rows.start : team.rows.stop].clone()
        return OwnText(text_share(whole, team.rows, team.size, position), own_rows, counts)
