"""Attention over tokens that lie on several ranks.

`Ulysses` lets each rank attend with a share of the heads over all tokens; `Ring` lets it attend with all heads for its
own tokens while keys and values go around. Both stand in the place of `Layout.attend`; what they are given are a
rank's own queries, keys and values, and what they give back is what its own queries read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hidream_edit.engine.model.attention import Attend, Pad
from hidream_edit.engine.model.log_sum_attention import attend_with_log_sum
from hidream_edit.engine.parallel.links import Links


class TeamPad(NamedTuple):
    """The pad that stands for many, where tokens lie on several ranks."""

    position: int  # in the team: whose token it is
    pad: Pad  # among the keys of that rank


class Ulysses:
    """All-to-all: from all heads of a rank's tokens to all tokens of a rank's heads, and back.

    Args:
        links: to the other ranks of the team.
        attend: attention over whole tensors.
        queries: how many each rank of the team has, in its order.
        keys: the same.
        pad: the one that stands for many, among all keys, rank after rank.
    """

    def __init__(
        self, links: Links, attend: Attend, *, queries: Sequence[int], keys: Sequence[int], pad: Pad | None
    ) -> None:
        self._links, self._attend = links, attend
        self._queries, self._keys, self._pad = list(queries), list(keys), pad

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, pad: Pad | None = None) -> Tensor:
        """See `hidream_edit.engine.model.attention.attend`; the pad that counts is the team's."""
        del pad
        team = self._links.size
        batch, heads, own, channels = query.shape
        share = batch * heads // team * channels  # numbers per token of a rank's heads

        def by_rank(tensor: Tensor) -> Tensor:
            """(batch, heads, tokens, channels) → (team, numbers), the heads of one rank in a row."""
            return tensor.view(batch, team, heads // team, tensor.shape[2], channels).movedim(1, 0).reshape(team, -1)

        sent = torch.cat((by_rank(query), by_rank(key), by_rank(value)), dim=1)
        numbers = [share * (queries + 2 * keys) for queries, keys in zip(self._queries, self._keys, strict=True)]
        received = self._links.exchange(sent.flatten(), [sent.shape[1]] * team, numbers)

        pieces: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for run, queries, keys in zip(torch.split(received, numbers), self._queries, self._keys, strict=True):
            split = torch.split(run, [share * queries, share * keys, share * keys])
            for into, piece, tokens in zip(pieces, split, (queries, keys, keys), strict=True):
                into.append(piece.view(batch, heads // team, tokens, channels))
        all_queries, all_keys, all_values = (torch.cat(piece, dim=2) for piece in pieces)
        read = self._attend(all_queries, all_keys, all_values, self._pad)

        sent = torch.cat([of_rank.reshape(-1) for of_rank in torch.split(read, self._queries, dim=2)])
        back = self._links.exchange(sent, [share * queries for queries in self._queries], [share * own] * team)
        return back.view(team, batch, heads // team, own, channels).movedim(0, 1).flatten(1, 2)


class Ring:
    """Keys and values go from rank to rank; what each round reads is merged by its log-sum-exp, in float32.

    Args:
        links: to the other ranks of the team.
        keys: how many each rank of the team has, in its order.
        pad: where the pad is that stands for many, or None.
    """

    def __init__(self, links: Links, *, keys: Sequence[int], pad: TeamPad | None) -> None:
        self._links, self._keys, self._pad = links, list(keys), pad

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, pad: Pad | None = None) -> Tensor:
        """See `hidream_edit.engine.model.attention.attend`; the pad that counts is the team's."""
        del pad
        links, held = self._links, torch.stack((key, value))
        merged = Merged(query)
        for round_ in range(links.size):
            owner = (links.position - round_) % links.size
            arriving = None
            if round_ < links.size - 1:
                tokens = self._keys[(owner - 1) % links.size]
                arriving = links.pass_on(held, held.new_empty(*held.shape[:3], tokens, held.shape[4]))
            self._read(merged, held, owner)
            if arriving is not None:
                held = arriving.wait()
        return merged.values.to(query.dtype)

    def _read(self, merged: Merged, held: Tensor, owner: int) -> None:
        """Attend to one rank's keys; the pad that stands for many is a value with a known logit."""
        if self._pad is not None and self._pad.position == owner:
            place = self._pad.pad.place
            merged.add_one(held[1, :, :, place : place + 1], self._pad.pad.logit)
            held = torch.cat((held[:, :, :, :place], held[:, :, :, place + 1 :]), dim=3)
        merged.add(held[0], held[1])


class Merged:
    """What some queries read from several sets of keys: softmax over all of them, without having them together."""

    def __init__(self, query: Tensor) -> None:
        self._query = query
        self.values = torch.zeros_like(query, dtype=torch.float32)  # (batch, heads, queries, channels)
        self._log_sum = query.new_full(query.shape[:-1], float("-inf"), dtype=torch.float32)

    def add(self, key: Tensor, value: Tensor) -> None:
        """Keys and values (batch, heads, keys, channels)."""
        if key.shape[2] and self._query.shape[2]:
            self._merge(*attend_with_log_sum(self._query, key, value))

    def add_one(self, value: Tensor, logit: float) -> None:
        """One value (batch, heads, 1, channels) whose logit is the same for every query."""
        if self._query.shape[2]:
            self._merge(value.expand_as(self._query), torch.full_like(self._log_sum, logit))

    def _merge(self, values: Tensor, log_sum: Tensor) -> None:
        together = torch.logaddexp(self._log_sum, log_sum)
        kept, new = (self._log_sum - together).exp()[..., None], (log_sum - together).exp()[..., None]
        self.values = self.values * kept + values.float() * new
        self._log_sum = together
