"""Modules whose weights are in host memory, and on the device only while they compute.

The bytes that a block computes with are the ones that it would have there all the time, so results are the same to the
last bit. On a GPU a block is copied on a stream of its own while others compute; on a CPU the same code copies at once.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hidream_edit.engine.memory.plan import IN_FLIGHT

logger = logging.getLogger(__name__)

ALIGNMENT = 256  # of each tensor in a run of bytes; no dtype and no kernel asks for more


class HostWeights:
    """Parameters of some modules as one run of bytes in host memory, which a single copy moves."""

    def __init__(self, modules: Sequence[nn.Module], *, pinned: bool) -> None:
        self._places: list[list[tuple[nn.Module, str]]] = []
        self._extents: list[tuple[int, torch.dtype, torch.Size]] = []
        found: dict[int, int] = {}
        tensors: list[Tensor] = []
        self.nbytes = 0
        for module in modules:
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in found:  # tied weights are one tensor in several places
                    self._places[found[id(parameter)]].append((module, name))
                    continue
                found[id(parameter)] = len(tensors)
                tensors.append(parameter.detach())
                self._places.append([(module, name)])
                self._extents.append((self.nbytes, parameter.dtype, parameter.shape))
                self.nbytes += -(-parameter.nbytes // ALIGNMENT) * ALIGNMENT
        self._run = torch.empty(self.nbytes, dtype=torch.uint8)
        if pinned and self.nbytes:
            pin(self._run)
        self._at_home = self.parameters_in(self._run)
        for mine, tensor in zip(self._at_home, tensors, strict=True):
            mine.copy_(tensor)
        self.return_home()

    def copy_to(self, room: Tensor) -> None:
        """Put the bytes at the beginning of ``room``, which is on a device."""
        room[: self.nbytes].copy_(self._run, non_blocking=True)

    def parameters_in(self, room: Tensor) -> list[nn.Parameter]:
        """The parameters as they lie in ``room``, without a copy."""
        with torch.inference_mode(False):  # a tensor that is born in it may be used nowhere else
            return [
                nn.Parameter(
                    room[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape), requires_grad=False
                )
                for start, dtype, shape in self._extents
            ]

    def use(self, parameters: Sequence[nn.Parameter]) -> None:
        """Let the modules compute with ``parameters``."""
        for places, parameter in zip(self._places, parameters, strict=True):
            for module, name in places:
                setattr(module, name, parameter)

    def return_home(self) -> None:
        """Let the modules point to host memory again."""
        self.use(self._at_home)


class Slot:
    """A place on the device that streamed blocks take turns in."""

    def __init__(self, room: Tensor) -> None:
        self.room = room
        self.holds: tuple[int, int] | None = None  # whose block, and which
        self.ready: Any = None  # a CUDA event: its bytes have arrived


class Slots:
    """The places of one device. Streams that share them must not run at the same time."""

    def __init__(self, device: torch.device, nbytes: int, count: int = IN_FLIGHT) -> None:
        self.device = device
        with torch.inference_mode(False):
            self.slots = [Slot(torch.empty(nbytes, dtype=torch.uint8, device=device)) for _ in range(count)]
        self._copying: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.slots)

    def fetch(self, slot: Slot, weights: HostWeights, holds: tuple[int, int]) -> None:
        """Begin to copy ``weights`` into ``slot``, after all that was asked of the device so far."""
        slot.holds = holds
        if self._copying is None:
            weights.copy_to(slot.room)
            return
        # Whoever computed with the slot's last content was asked for earlier on the computing stream.
        self._copying.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._copying):
            weights.copy_to(slot.room)
            slot.ready = self._copying.record_event()

    def wait(self, slot: Slot) -> None:
        """Let the device compute nothing more until the bytes of ``slot`` are there."""
        if slot.ready is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.ready)

    def close(self) -> None:
        """Give the places back. What is still being copied into them must not hit what takes their memory next."""
        if self._copying is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._copying)
        self.slots = []


class BlockStream:
    """Blocks that are called one after the other, always in the same order, and pass through the slots.

    With ``around``, the first blocks are fetched again while the last ones compute: right for a transformer, which
    runs step after step, and wasted on an encoder.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, pinned: bool, around: bool, slots: Slots | None = None) -> None:
        self.slots = slots
        self.bytes_copied = 0
        self._weights = [HostWeights([*block.modules()], pinned=pinned) for block in blocks]
        self._around = around
        self._views: dict[tuple[int, int], list[nn.Parameter]] = {}
        for position, block in enumerate(blocks):
            block.register_forward_pre_hook(self._before(position))
            block.register_forward_hook(self._after(position), always_call=True)

    @property
    def largest(self) -> int:
        """Bytes that a slot must have."""
        return max((weights.nbytes for weights in self._weights), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes in host memory."""
        return sum(weights.nbytes for weights in self._weights)

    def forget(self) -> None:
        """The slots are no longer there."""
        self.slots = None
        self._views.clear()

    def _before(self, position: int) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, __: Any) -> None:
            slots = self._open_slots()
            for ahead in range(len(slots)):
                following = self._following(position, ahead)
                if following is not None:
                    self._ensure(following, needed=position)
            slot = self._slot_of(position)
            assert slot is not None  # noqa: S101 - it was fetched a line above
            slots.wait(slot)
            self._weights[position].use(self._in(slot, position))

        return hook

    def _after(self, position: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, ___: Any) -> None:
            self._weights[position].return_home()
            if self.slots is None:  # this hook runs after failures too
                return
            slot = self._slot_of(position)
            following = self._following(position, len(self.slots))
            if slot is not None and following is not None and self._slot_of(following) is None:
                self._fetch(slot, following)

        return hook

    def _following(self, position: int, ahead: int) -> int | None:
        if position + ahead < len(self._weights):
            return position + ahead
        return (position + ahead) % len(self._weights) if self._around else None

    def _ensure(self, position: int, *, needed: int) -> None:
        """Fetch a block that is not on its way, into a slot that none of the next blocks is in."""
        if self._slot_of(position) is not None:
            return
        slots = self._open_slots()
        soon = {(id(self), self._following(needed, ahead)) for ahead in range(len(slots))}
        free = next((slot for slot in slots.slots if slot.holds not in soon), None)
        if free is not None:
            self._fetch(free, position)

    def _fetch(self, slot: Slot, position: int) -> None:
        self._open_slots().fetch(slot, self._weights[position], (id(self), position))
        self.bytes_copied += self._weights[position].nbytes

    def _slot_of(self, position: int) -> Slot | None:
        slots = self._open_slots().slots
        return next((slot for slot in slots if slot.holds == (id(self), position)), None)

    def _in(self, slot: Slot, position: int) -> list[nn.Parameter]:
        key = (id(slot), position)
        if key not in self._views:
            self._views[key] = self._weights[position].parameters_in(slot.room)
        return self._views[key]

    def _open_slots(self) -> Slots:
        if self.slots is None:
            raise RuntimeError("a streamed block was called while its slots were closed")
        return self.slots


class FromHost:
    """A module in host memory, lent to the device: its blocks stream, the rest is copied for the time of the loan."""

    def __init__(self, module: nn.Module, device: torch.device, *, pinned: bool = True) -> None:
        self._module, self._device = module, device
        blocks = blocks_of(module)
        inside = {id(part) for block in blocks for part in block.modules()}
        pinned = pinned and device.type == "cuda"
        self._blocks = BlockStream(blocks, pinned=pinned, around=False)
        self._rest = HostWeights([part for part in module.modules() if id(part) not in inside], pinned=pinned)
        for part in module.modules():
            for name, buffer in part.named_buffers(recurse=False):
                setattr(part, name, buffer.to(device))

    @contextmanager
    def lent(self) -> Iterator[nn.Module]:
        """The module, which computes on the device until the loan ends."""
        room = torch.empty(self._rest.nbytes, dtype=torch.uint8, device=self._device)
        self._rest.copy_to(room)
        self._rest.use(self._rest.parameters_in(room))
        slots = Slots(self._device, self._blocks.largest)
        self._blocks.slots = slots
        try:
            yield self._module
        finally:
            self._rest.return_home()
            self._blocks.forget()
            slots.close()
            if self._device.type == "cuda":
                del room
                torch.cuda.empty_cache()  # what comes next wants other sizes


class FromDisk:
    """A module that is read for each loan and dropped after it."""

    def __init__(self, read: Callable[[], nn.Module], device: torch.device) -> None:
        self._read, self._device = read, device

    @contextmanager
    def lent(self) -> Iterator[nn.Module]:
        """The module, which computes on the device until the loan ends."""
        module = self._read()
        if self._device.type == "cpu":
            yield module
            return
        with FromHost(module, self._device, pinned=False).lent() as there:
            yield there


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The list of layers that holds most of a module's weights."""
    lists = [[*part] for part in module.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=_bytes_of, default=[])


def _bytes_of(modules: Sequence[nn.Module]) -> int:
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


def pin(run: Tensor) -> None:
    """Tell the GPU's driver to keep ``run`` where it is, so that it can be copied while the GPU computes.

    In place, because torch's own pinned memory comes in powers of two. Where the driver refuses, copies are slower and
    do not overlap; results are the same.
    """
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    code = int(runtime.cudaHostRegister(run.data_ptr(), run.nbytes, 0))
    if code != 0:
        logger.warning(
            "%.2f GB of host memory cannot be pinned (code %d): copies will be slower", run.nbytes / 1e9, code
        )
        return
    weakref.finalize(run.untyped_storage(), runtime.cudaHostUnregister, run.data_ptr()).atexit = False
