"""What ranks send one another: tensors, over torch.distributed."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore

from hidream_edit.domain.errors import DeviceUnavailable
from hidream_edit.engine.parallel.mesh import BRANCHES_MAX, Team, choose_teams

# A rank that others wait for longer is lost. All compute as much at the same time, so nobody waits for long.
PATIENCE_SECONDS = 20.0


class Arriving(NamedTuple):
    """A tensor on its way."""

    into: Tensor
    works: Sequence[Any]

    def wait(self) -> Tensor:
        """The tensor, when it is there."""
        for work in self.works:
            work.wait()
        return self.into


class Links(NamedTuple):
    """From one rank to the others of its team."""

    group: Any  # a process group
    ranks: tuple[int, ...]
    position: int  # of this rank in the team

    @property
    def size(self) -> int:
        return len(self.ranks)

    def exchange(self, sent: Tensor, sent_numbers: Sequence[int], received_numbers: Sequence[int]) -> Tensor:
        """Runs of ``sent``, one for each rank of the team, for theirs: one run after the other."""
        received = sent.new_empty(sum(received_numbers))
        dist.all_to_all_single(received, sent, list(received_numbers), list(sent_numbers), group=self.group)
        return received

    def pass_on(self, sent: Tensor, into: Tensor) -> Arriving:
        """Begin to send to the next rank, and to receive from the one before."""
        following, before = (self.ranks[(self.position + step) % self.size] for step in (1, -1))
        operations = [
            dist.P2POp(dist.isend, sent.contiguous(), following, self.group),
            dist.P2POp(dist.irecv, into, before, self.group),
        ]
        return Arriving(into, dist.batch_isend_irecv(operations))


def check_is_free() -> None:
    """torch.distributed knows one world per process.

    Raises:
        DeviceUnavailable: this process is in one already.
    """
    if dist.is_initialized():
        raise DeviceUnavailable("this process already works with several devices; close that engine first")


class World:
    """All ranks of a group, and the teams that they form for one, two or three branches."""

    def __init__(self, rank: int, ranks: int, *, device: torch.device, heads: int, exchange: float) -> None:
        self.rank, self.ranks, self.device = rank, ranks, device
        self.teams = {
            branches: choose_teams(branches, ranks, heads=heads, exchange=exchange)
            for branches in range(1, BRANCHES_MAX + 1)
        }
        self._groups: dict[tuple[int, ...], Any] = {}
        self._is_joined = False

    def join(self, meeting_place: Path) -> None:
        """Meet the others by a file that only this user can reach; their sockets listen on loopback only.

        Raises:
            RuntimeError: they do not come, or cannot be reached (torch.distributed's own errors).
        """
        patience = timedelta(seconds=PATIENCE_SECONDS)
        on_cuda = self.device.type == "cuda"
        if on_cuda:
            torch.cuda.set_device(self.device)
        store = FileStore(str(meeting_place), self.ranks)
        store.set_timeout(patience)
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, loopback())
        dist.init_process_group(
            "nccl" if on_cuda else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.ranks,
            timeout=patience,
            device_id=self.device if on_cuda else None,
        )
        self._is_joined = True
        wanted = {team.ranks for teams in self.teams.values() for team in teams if team.size > 1}
        for ranks in sorted(wanted):  # each rank makes all of them in the same order, its own or not
            self._groups[ranks] = dist.new_group(list(ranks), timeout=patience)
        dist.all_reduce(torch.zeros(1, device=self.device))
        for ranks, group in self._groups.items():
            if self.rank in ranks:  # the connections are made now, not in the first edit
                dist.all_reduce(torch.zeros(1, device=self.device), group=group)

    def leave(self) -> None:
        """Give the connections back."""
        if self._is_joined:
            self._is_joined = False
            dist.destroy_process_group()

    def team(self, branches: int) -> Team | None:
        """The team of this rank for that many branches, if it has one."""
        return next((team for team in self.teams[branches] if self.rank in team.ranks), None)

    def links(self, team: Team) -> Links:
        """To the others of ``team``, which has several ranks."""
        return Links(self._groups[team.ranks], team.ranks, team.ranks.index(self.rank))

    def tell(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, in the place of everybody's."""
        dist.broadcast(tensor, 0)
        return tensor

    def gather(self, tensor: Tensor, numbers: Sequence[int]) -> list[Tensor]:
        """What every rank has, flat; ``numbers`` says how much that is."""
        longest = max(numbers)
        mine = torch.nn.functional.pad(tensor.flatten(), (0, longest - tensor.numel()))
        everything = [torch.empty_like(mine) for _ in numbers]
        dist.all_gather(everything, mine)
        return [run[:count] for run, count in zip(everything, numbers, strict=True)]


def loopback() -> str:
    """The name of the interface that no other machine can reach."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), names[0])
