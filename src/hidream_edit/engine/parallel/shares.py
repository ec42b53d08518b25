"""Which tokens of a canvas and its text each rank of a team has.

Every kind of token is shared out for itself, so that ranks have as many of each: tokens that hold noise (the last block
computes no others), tokens of the source, pads, and each kind of text. Text is shared out too: as a copy on each rank
it would be a fifth more work on four ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hidream_edit.engine.model.attention import Attend
from hidream_edit.engine.model.patches import patches_of
from hidream_edit.engine.model.transformer import Geometry, Given, TextTokens, Transformer
from hidream_edit.engine.parallel.attention import Ring, TeamPad, Ulysses
from hidream_edit.engine.parallel.links import Links
from hidream_edit.engine.parallel.mesh import part_of, shares_heads


class Counts(NamedTuple):
    """How many tokens there are of each kind, in the order in which a rank has them."""

    noise: int
    source: int
    pads: int
    t5: int
    llama: int
    own: int  # the text that each block reads for itself

    def share(self, team: int, position: int) -> Counts:
        """Those of one rank. Where pads do not come out even, the last ranks have more, as they have fewer others."""
        given = [len(part_of(count, team, position)) for count in self]
        given[2] = len(part_of(self.pads, team, team - 1 - position))
        return Counts(*given)

    @property
    def image(self) -> int:
        """With pads."""
        return self.noise + self.source + self.pads

    @property
    def tokens(self) -> int:
        """That go from block to block."""
        return self.image + self.t5 + self.llama

    @property
    def keys(self) -> int:
        """That a block attends to."""
        return self.tokens + self.own


def text_share(text: TextTokens, rows: range, team: int, position: int) -> TextTokens:
    """Some rows of the batch, and of them the tokens of one rank; without any of the memory of the rest."""

    def share(tokens: Tensor) -> Tensor:
        part = part_of(tokens.shape[1], team, position)
        return tokens[rows.start : rows.stop, part.start : part.stop].clone()

    return TextTokens(share(text.t5), tuple(share(layer) for layer in text.llama))


class Shares:
    """A canvas on a team, as one of its ranks sees it.

    Args:
        transformer: whose blocks will run.
        whole: the canvas on one device.
        text_rows: of T5, of Llama, and of the text that each block reads for itself.
        links: to the other ranks.
    """

    def __init__(
        self,
        transformer: Transformer,
        whole: Geometry,
        text_rows: tuple[int, int, int],
        links: Links,
    ) -> None:
        device = whole.order.device
        padded = whole.layout.image_tokens
        on_canvas = whole.rows * whole.columns
        counts = Counts(whole.noise_tokens, on_canvas - whole.noise_tokens, padded - on_canvas, *text_rows)
        self.team = [counts.share(links.size, position) for position in range(links.size)]
        self.mine = self.team[links.position]
        noise, source = (part_of(count, links.size, links.position) for count in counts[:2])
        pads_before = sum(each.pads for each in self.team[: links.position])
        kinds = (
            (0, noise.start, self.mine.noise),
            (counts.noise, source.start, self.mine.source),
            (on_canvas, pads_before, self.mine.pads),
        )
        index = [start + torch.arange(first, first + count) for start, first, count in kinds]
        self._index = torch.cat(index).to(device)
        on_mine = self._index[: self.mine.noise + self.mine.source]

        pad = None
        if whole.layout.pad is not None:
            position = next(place for place, each in enumerate(self.team) if each.pads)
            owner = self.team[position]
            pad = TeamPad(position, whole.layout.pad._replace(place=owner.noise + owner.source))
        rotation = whole.layout.rotation.rows(on_mine)
        layout = whole.layout._replace(rotation=rotation, pad=None)
        geometries = [self._geometry(each, whole._replace(layout=layout)) for each in self.team]
        keys = [each.keys for each in self.team]

        def attend(block: int) -> Attend:
            if not shares_heads(transformer.config.num_attention_heads, links.size):
                return Ring(links, keys=keys, pad=pad)
            queries = []
            for each, geometry in zip(self.team, geometries, strict=True):
                computed = transformer.computed(block, geometry, each.tokens)
                queries.append(each.keys if computed is None else computed)
            among_all = pad and pad.pad._replace(place=sum(keys[: pad.position]) + pad.pad.place)
            return Ulysses(links, transformer.attend, queries=queries, keys=keys, pad=among_all)

        own = geometries[links.position]
        self._last_block = len(transformer.blocks) - 1
        self._before, self._last = (
            own._replace(layout=own.layout._replace(attend=attend(block))) for block in (0, self._last_block)
        )

    @staticmethod
    def _geometry(counts: Counts, whole: Geometry) -> Geometry:
        """A rank's tokens as a canvas: its noise tokens are one below the other."""
        first_pad = counts.noise + counts.source
        layout = whole.layout._replace(
            image_tokens=counts.image, pad_range=(first_pad, counts.image) if counts.pads else None
        )
        return Geometry(counts.noise, 1, 1, whole.pads, whole.order, layout)

    def run(self, transformer: Transformer, tokens: Tensor, given: Given) -> Tensor:
        """This rank's part of the output as patches (rows, noise tokens, patch numbers).

        Args:
            transformer: the one that was given before.
            tokens: (rows, all image tokens with pads + this rank's text, width), as `Transformer.enter` gives them.
            given: with this rank's text.
        """
        image_tokens = given.geometry.layout.image_tokens
        tokens = torch.cat((tokens[:, self._index], tokens[:, image_tokens:]), dim=1)
        before, last = given._replace(geometry=self._before), given._replace(geometry=self._last)
        tokens = transformer.run(tokens, before, 0, self._last_block)
        tokens = transformer.run(tokens, last, self._last_block)
        patch = transformer.config.patch_size
        return patches_of(transformer.leave(tokens, last), patch)
