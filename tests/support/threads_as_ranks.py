"""Ranks of a group as threads of this process: the same arithmetic without processes, in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from hidream_edit.engine.parallel.links import Arriving, World
from hidream_edit.engine.parallel.mesh import Team

T = TypeVar("T")
SECONDS_MAX = 30.0


class Table:
    """Where threads lay down what others take: one round after the other."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=SECONDS_MAX)
        self._laid: dict[int, Any] = {}

    def swap(self, position: int, mine: T) -> list[T]:
        """What everybody laid down in this round."""
        self._laid[position] = mine
        self._barrier.wait()
        everything = [self._laid[each] for each in sorted(self._laid)]
        self._barrier.wait()
        return everything

    def abort(self) -> None:
        self._barrier.abort()


class ThreadLinks:
    """See `Links`."""

    def __init__(self, table: Table, size: int, position: int) -> None:
        self._table, self.size, self.position = table, size, position

    def exchange(self, sent: Tensor, sent_numbers: Sequence[int], received_numbers: Sequence[int]) -> Tensor:
        runs = self._table.swap(self.position, torch.split(sent, list(sent_numbers)))
        received = [runs[each][self.position] for each in range(self.size)]
        assert [run.numel() for run in received] == list(received_numbers)
        return torch.cat(received)

    def pass_on(self, sent: Tensor, into: Tensor) -> Arriving:
        before = self._table.swap(self.position, sent)[self.position - 1]
        assert before.shape == into.shape
        into.copy_(before)
        return Arriving(into, ())


class ThreadWorld(World):
    """See `World`."""

    def __init__(self, rank: int, ranks: int, tables: Callable[[tuple[int, ...]], Table], **options: Any) -> None:
        super().__init__(rank, ranks, device=torch.device("cpu"), **options)
        self._tables, self._everybody = tables, tables(tuple(range(ranks)))

    def links(self, team: Team) -> Any:
        return ThreadLinks(self._tables(team.ranks), team.size, team.ranks.index(self.rank))

    def tell(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self._everybody.swap(self.rank, tensor)[0])

    def gather(self, tensor: Tensor, numbers: Sequence[int]) -> list[Tensor]:
        gathered = self._everybody.swap(self.rank, tensor.flatten())
        assert [each.numel() for each in gathered] == list(numbers)
        return gathered


def tables_of(made: dict[tuple[int, ...], Table]) -> Callable[[tuple[int, ...]], Table]:
    """A table per set of ranks, made when it is first asked for."""
    lock = threading.Lock()

    def find(ranks: tuple[int, ...]) -> Table:
        with lock:
            return made.setdefault(ranks, Table(len(ranks)))

    return find


def on_threads(count: int, do: Callable[[int], T], made: dict[Any, Table] | None = None) -> list[T]:
    """``do`` of each rank at the same time; one that fails lets none of the others wait."""

    def guarded(rank: int) -> T:
        try:
            with torch.inference_mode():
                return do(rank)
        except BaseException:
            for table in (made or {}).values():
                table.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(guarded, range(count)))
