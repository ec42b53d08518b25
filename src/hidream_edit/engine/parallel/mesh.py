"""Which ranks compute which guidance branches together: arithmetic, no tensors.

The unit of cost is the time in which one rank computes a block for one branch. A team of s ranks that shares b branches
takes b·(1/s + exchange·m), where m counts how often all tokens of a branch, as wide as the network, go through a rank's
link: queries, keys, values and results, each once, 4·(s − 1)/s² with Ulysses; keys and values of everybody else,
2·(s − 1)/s, with the ring. The slowest team decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Seconds that all tokens of a branch take through a link, over the seconds of a block: 4,992 tokens of 2,560 channels
# in bf16 are 25.6 MB, and a block is 1/48 of 88 TFLOP at 790 TFLOP/s (model.md 13), 2.3 ms. With NVLink at 300 GB/s
# that is 0.04, through PCIe at 22 GB/s 0.5. Arithmetic; not measured on a GPU.
NEAR, FAR = 0.04, 0.5
BRANCHES_MAX = 3


class Team(NamedTuple):
    """Ranks that compute the same rows of the batch, each for its share of the tokens."""

    ranks: tuple[int, ...]
    rows: range  # of the batch, one per guidance branch

    @property
    def size(self) -> int:
        return len(self.ranks)


def choose_teams(branches: int, ranks: int, *, heads: int, exchange: float = NEAR) -> tuple[Team, ...]:
    """The cheapest way to share ``branches`` rows among ``ranks`` devices; a device that would not help gets none."""

    def cost(shape: tuple[Sequence[int], Sequence[int]]) -> float:
        return max(team_cost(size, rows, heads=heads, exchange=exchange) for size, rows in zip(*shape, strict=True))

    sizes, rows = min(_shapes(branches, ranks), key=lambda shape: (cost(shape), sum(shape[0])))
    first_rank = [0, *itertools.accumulate(sizes)]
    first_row = [0, *itertools.accumulate(rows)]
    return tuple(
        Team(tuple(range(first_rank[k], first_rank[k + 1])), range(first_row[k], first_row[k + 1]))
        for k in range(len(sizes))
    )


def team_cost(size: int, branches: int, *, heads: int, exchange: float) -> float:
    """What a team takes for its branches, in blocks of one branch on one rank."""
    moved = 4 * (size - 1) / size**2 if shares_heads(heads, size) else 2 * (size - 1) / size
    return branches * (1 / size + exchange * moved)


def shares_heads(heads: int, size: int) -> bool:
    """Whether each rank of a team takes as many attention heads (Ulysses); otherwise keys go around (ring)."""
    return heads % size == 0


def part_of(count: int, parts: int, index: int) -> range:
    """The ``index``-th of ``parts`` runs of ``count`` things, as equal as it goes; longer ones come first."""
    whole, rest = divmod(count, parts)
    start = index * whole + min(index, rest)
    return range(start, start + whole + (index < rest))


def _shapes(branches: int, ranks: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Sizes and branches of the teams; the largest team has the most branches."""
    for teams in range(1, min(branches, ranks) + 1):
        for used in range(teams, ranks + 1):
            yield from itertools.product(_partitions(used, teams), _partitions(branches, teams))


def _partitions(total: int, parts: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """Ways to write ``total`` as a sum of ``parts`` positive numbers, none larger than the one before it."""
    if parts == 1:
        if largest is None or total <= largest:
            yield (total,)
        return
    for first in range(min(total - parts + 1, largest or total), 0, -1):
        for rest in _partitions(total - first, parts - 1, first):
            yield (first, *rest)
