"""Rank 0's side of a group: starts the other ranks, tells them what to do, and loses all of them when it loses one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from hidream_edit.domain.errors import DeviceUnavailable, GroupLost
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.checked_model import ModelSource
from hidream_edit.engine.devices import choose_device
from hidream_edit.engine.memory.activations import STAGES_KEPT
from hidream_edit.engine.model.denoiser import Around, Denoisers
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.transformer import ForwardInputs, TextTokens, Transformer
from hidream_edit.engine.parallel import mesh
from hidream_edit.engine.parallel.links import World, check_is_free
from hidream_edit.engine.parallel.meeting import MeetingFolder, meeting_place
from hidream_edit.engine.parallel.orders import write_line
from hidream_edit.engine.parallel.rank import Assignment
from hidream_edit.engine.parallel.seat import Order, Seat, TextOrder
from hidream_edit.engine.recent import Recent

logger = logging.getLogger(__name__)

LEAVE_SECONDS = 5.0  # for a rank to end by itself when it is no longer needed

OnLoss = Callable[[str], None]
Progress = Callable[[str], None]


class Group:
    """The ranks of one engine.

    The other ranks are child processes that hold transformers only; everything else of an edit happens in this
    process. Whatever goes wrong with one rank ends them all: the half of a step is worth nothing.

    Args:
        devices: of rank 0, 1, …
        source: the model; every rank reads its files.
        dtype: of the weights.
        memory: how much of each device may be used.
        measures: see `Engine.load`.
        quantization: see `Engine.load`.
        progress: told what the other ranks do.
        on_loss: called once, from any thread, when a rank is lost; it may end the process.
    """

    def __init__(
        self,
        devices: Sequence[str],
        source: ModelSource,
        *,
        dtype: str,
        memory: str | None,
        measures: Measures,
        quantization: Quantization = Quantization.NONE,
        progress: Progress = lambda _: None,
        on_loss: OnLoss | None = None,
    ) -> None:
        check_is_free()
        self.devices = [str(choose_device(device)) for device in devices]
        check_devices(self.devices)
        self._progress, self._on_loss = progress, on_loss
        self._exchange = exchange_between(self.devices)
        self._folder = MeetingFolder()
        self._seat: Seat | None = None
        self._world: World | None = None
        self._lock, self._told = threading.Lock(), threading.Event()
        self._lost: str | None = None
        self._is_closing = False
        self._texts: Recent[tuple[int, int], tuple[int, TextTokens, Tensor]] = Recent(STAGES_KEPT)
        self._text_count = 0
        self._children = [
            _Child(rank, device, self._lose, progress) for rank, device in enumerate(self.devices) if rank > 0
        ]
        count = len(self.devices)
        threads = max(1, torch.get_num_threads() // count)
        if self.devices[0] == "cpu":
            torch.set_num_threads(threads)
        told = {key: None if value is None else str(value) for key, value in asdict(source).items()}
        for child in self._children:
            assignment = Assignment(
                child.rank, count, child.device, dtype, memory, self._exchange, threads, str(self._folder.path), told,
                asdict(measures), quantization.value,
            )  # fmt: skip
            child.start(assignment.as_json())

    def connected(self, edit: Transformer, refine: Transformer | None) -> Denoisers:
        """Wait until all ranks have loaded, and connect them; the transformers of both stages, on all ranks.

        Raises:
            GroupLost: a rank could not.
        """
        self._join([edit] if refine is None else [edit, refine])
        return Denoisers(GroupTransformer(self, 0, edit), None if refine is None else GroupTransformer(self, 1, refine))

    def _join(self, transformers: Sequence[Transformer]) -> None:
        heads = transformers[0].config.num_attention_heads
        device = choose_device(self.devices[0])
        self._world = world = World(0, len(self.devices), device=device, heads=heads, exchange=self._exchange)
        for child in self._children:
            child.loaded.wait()
        self._check()
        with self._together():
            for child in self._children:
                child.tell({"join": True})
            world.join(meeting_place(self._folder.path))
        for child in self._children:
            child.joined.wait()
        self._check()
        self._seat = Seat(world, transformers)

    def forward(self, which: int, inputs: ForwardInputs) -> Tensor:
        """See `Transformer.forward`, by all ranks together; each of them makes its modulations by itself.

        Raises:
            GroupLost: a rank is gone, or does not answer.
        """
        self._check()
        if self._seat is None:
            raise RuntimeError("the ranks have not been connected")
        canvas, timesteps, text, pooled, *_ = inputs
        known = self._text_count
        number, *_ = self._texts.get((id(text), id(pooled)), lambda: self._numbered(text, pooled))
        new_text = TextOrder.of(text, pooled) if number >= known else None
        dtype = str(canvas.dtype).removeprefix("torch.")
        order = Order(which, number, new_text, tuple(canvas.shape), inputs.columns_wanted, dtype)
        with self._together():
            for child in self._children:
                child.tell(order.as_json())
            return self._seat.take_part(order, (canvas.contiguous(), timesteps.float()), (text, pooled))

    def close(self) -> None:
        """End the other ranks."""
        with self._lock:
            self._is_closing = True
        for child in self._children:
            child.leave()
        for child in self._children:
            child.end(LEAVE_SECONDS)
        if self._world is not None:
            self._world.leave()
        self._folder.remove()

    def _numbered(self, text: TextTokens, pooled: Tensor) -> tuple[int, TextTokens, Tensor]:
        """A number for a text, which is kept so that no other is ever at its place in memory."""
        self._text_count += 1
        return self._text_count - 1, text, pooled

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What is begun on all ranks is finished on all of them, or loses them."""
        try:
            yield
        except Exception as problem:
            self._lose(f"{type(problem).__name__}: {problem}")
            raise self._loss() from problem
        except BaseException:  # Ctrl-C: the others are in the middle of a step
            self._lose("it was interrupted")
            raise

    def _lose(self, reason: str) -> None:
        """A rank is gone, or out of step; the others are of no use without it."""
        with self._lock:
            if self._is_closing:
                return
            is_first = self._lost is None
            self._lost = self._lost or reason
        if not is_first:
            # Not before ``on_loss`` has had its way: what it ends must not write down a failure first.
            self._told.wait()
            return
        logger.error("the group of %s is lost: %s", ", ".join(self.devices), reason)
        for child in self._children:
            child.kill()
        self._folder.remove()
        if self._on_loss is not None:
            self._on_loss(reason)
        self._told.set()

    def _check(self) -> None:
        if self._lost is not None:
            self._told.wait()
            raise self._loss()
        if self._is_closing:
            raise GroupLost("the engine was closed")

    def _loss(self) -> GroupLost:
        return GroupLost(f"the devices {', '.join(self.devices)} cannot go on together: {self._lost}")


class _Child:
    """The process of one rank, and the thread that starts it, listens to it and sees it end.

    The same thread does all three: Linux kills the child when the thread that started it ends.
    """

    def __init__(self, rank: int, device: str, lose: Callable[[str], None], progress: Progress) -> None:
        self.rank, self.device, self._lose, self._progress = rank, device, lose, progress
        self.loaded, self.joined = threading.Event(), threading.Event()
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._live, name=f"rank {rank}", daemon=True)
        self._is_ending = False

    def start(self, assignment: dict[str, Any]) -> None:
        self._thread.start()
        self._started.wait()
        with suppress(OSError, ValueError):  # whoever listens to it reports its end
            self.tell(assignment)

    def tell(self, message: dict[str, Any]) -> None:
        """Raises OSError, ValueError: it is gone."""
        if self._process is None or self._process.stdin is None:
            raise BrokenPipeError(f"rank {self.rank} was not started")
        write_line(self._process.stdin, message)

    def leave(self) -> None:
        """Its work is done."""
        self._is_ending = True
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def end(self, seconds: float) -> None:
        """Wait until it has ended, and make it, where it takes longer than that."""
        self._thread.join(seconds)
        self.kill()
        self._thread.join()

    def kill(self) -> None:
        """End it now, even if it stands still."""
        self._is_ending = True
        if self._process is not None:
            self._process.kill()

    def _live(self) -> None:
        failed = ""
        command = [sys.executable, "-m", "hidream_edit.engine.parallel.rank"]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own program
        except OSError as problem:
            failed = str(problem)
        self._started.set()
        if self._process is not None and self._process.stdout is not None:
            with self._process.stdout:
                for line in self._process.stdout:
                    failed = self._heard(json.loads(line)) or failed
            code = self._process.wait()
            failed = failed or f"it ended with {code}"
            if self._process.stdin is not None:
                with suppress(OSError):  # what it did not read any more
                    self._process.stdin.close()
        if not self._is_ending:
            self._lose(f"rank {self.rank} on {self.device}: {failed}")
        self.loaded.set()
        self.joined.set()  # nobody waits for it any more

    def _heard(self, report: dict[str, Any]) -> str:
        """What went wrong, in words, if it reports that."""
        if "says" in report:
            self._progress(f"{self.device}: {report['says']}")
        for word, event in (("loaded", self.loaded), ("joined", self.joined)):
            if word in report:
                event.set()
        return str(report.get("failed", ""))


class GroupTransformer(Around):
    """A transformer on all ranks of a group, called like one on a single device."""

    def __init__(self, group: Group, which: int, transformer: Transformer) -> None:
        super().__init__(transformer)
        self._group, self._which = group, which

    def __call__(self, inputs: ForwardInputs, /) -> Tensor:
        """See `Transformer.forward`.

        Raises:
            GroupLost: a rank is gone, or does not answer.
        """
        noise_tokens = inputs.canvas.shape[-2] * inputs.columns_wanted // self.config.patch_size**2
        if min(noise_tokens, inputs.text.t5.shape[1], inputs.text.llama[0].shape[1]) < len(self._group.devices):
            # Not a token for each rank: nothing to be gained, and blocks do not take nothing.
            return self.plain(inputs._replace(modulations=None))  # type: ignore[no-any-return]
        return self._group.forward(self._which, inputs)


def check_devices(devices: Sequence[str]) -> None:
    """Raises DeviceUnavailable: they cannot work together."""
    if len({torch.device(device).type for device in devices}) > 1:
        raise DeviceUnavailable(f"{', '.join(devices)} are of different kinds and cannot work together")
    if devices[0] != "cpu" and len(set(devices)) < len(devices):
        raise DeviceUnavailable(f"a device is named twice: {', '.join(devices)}")


def exchange_between(devices: Sequence[str]) -> float:
    """How slow the links between devices are, for `choose_teams`."""
    if not all(device.startswith("cuda") for device in devices):
        return mesh.NEAR
    numbers = [torch.device(device).index or 0 for device in devices]
    reach = (torch.cuda.can_device_access_peer(a, b) for a in numbers for b in numbers if a != b)
    return mesh.NEAR if all(reach) else mesh.FAR
