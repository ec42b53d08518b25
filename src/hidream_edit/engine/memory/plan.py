"""Where each part of a model is kept, what that needs and what it costs: arithmetic, done before anything loads."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from hidream_edit.domain.errors import InputInvalid, MemoryTooSmall
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.memory.sizes import STEPS_SHOWN, Encoder, ModelSizes

AUTO = "auto"
# Streamed blocks take turns in so many places on the device: one computes while the next is copied.
IN_FLIGHT = 2
# What the driver, the kernels' workspaces and gaps between tensors take on a GPU. An estimate.
RESERVE_BYTES = 2**30
# Left to the rest of the machine when weights are kept in its memory.
HOST_RESERVE_BYTES = 2 * 2**30
# Weights of the two kinds of cost when plans are compared: a bus of the fourth generation, a good disk.
BUS_BYTES_PER_SECOND, DISK_BYTES_PER_SECOND = 20e9, 2e9
UNITS = {"": 10**9, "gb": 10**9, "g": 10**9, "mb": 10**6, "m": 10**6, "gib": 2**30, "mib": 2**20}


class Place(StrEnum):
    """Where a text encoder is when nothing is encoded."""

    DEVICE = "on the device"
    HOST = "in host memory"  # its blocks pass through the device while it reads
    DISK = "on disk"  # read for words that are new, then dropped


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Which parts are where."""

    encoders: tuple[Place, ...]  # in the order of the sizes
    resident_blocks: int  # of each transformer; the rest is streamed
    tiled: bool = False  # whether the autoencoder works in tiles


@dataclass(frozen=True, slots=True)
class Room:
    """Memory to plan for. On a CPU host and device are one: nothing is gained by moving weights between them."""

    device: int
    host: int | None = None  # None: as much as it takes
    is_shared: bool = False
    reserve: int = RESERVE_BYTES


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """An arrangement, with what it needs and costs."""

    sizes: ModelSizes
    arrangement: Arrangement
    reserve: int = RESERVE_BYTES
    is_shared: bool = False

    @property
    def everything_is_resident(self) -> bool:
        """Whether this is the plain path: no part ever moves."""
        return self == everything_resident(self.sizes, reserve=self.reserve, is_shared=self.is_shared)

    @property
    def streamed(self) -> tuple[int, ...]:
        """Indices of the streamed blocks, spread evenly, so that resident ones compute while the next is copied."""
        return spread(len(self.sizes.transformers[0].blocks), self.arrangement.resident_blocks)

    @property
    def standing(self) -> int:
        """What is on the device all the time: weights, places for streamed blocks, embeddings."""
        streamed = set(self.streamed)
        whole = sum(
            encoder.part.weights
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
            if place is Place.DEVICE
        )
        blocks = sum(
            part.own_rest + sum(size for index, size in enumerate(part.own_blocks) if index not in streamed)
            for part in self.sizes.transformers
        )
        cached = 0 if self.texts_go_to_the_host else self.sizes.cached
        return whole + blocks + self.sizes.autoencoder.weights + self.slots * self.slot_bytes + cached

    @property
    def texts_go_to_the_host(self) -> bool:
        """Whether embeddings that are kept leave the device. They are small, but so is what is left there."""
        return not self.is_shared and any(place is not Place.DEVICE for place in self.arrangement.encoders)

    @property
    def slots(self) -> int:
        return min(IN_FLIGHT, len(self.streamed))

    @property
    def slot_bytes(self) -> int:
        """A place that takes any streamed block; both transformers use the same ones."""
        streamed = self.streamed
        return max((part.blocks[index] for part in self.sizes.transformers for index in streamed), default=0)

    @property
    def phases(self) -> dict[str, int]:
        """The most that the device holds in each phase, without the reserve.

        Loading is among them where it takes more than what stays, of a memory that host and device share.
        """
        autoencoder, tiled = self.sizes.autoencoder, self.arrangement.tiled
        encoding = max(
            (
                encoder.working + (0 if place is Place.DEVICE else self._visit(encoder, place))
                for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
            ),
            default=0,
        )
        loading = {"load the encoders": self.loading} if self.is_shared and self.loading > self.standing else {}
        return loading | {
            "encode the words": self.standing + encoding,
            "encode the source": self.standing + (autoencoder.tile_encode if tiled else autoencoder.encode),
            "denoise": self.standing + self.sizes.texts + self.sizes.step,
            "decode": self.standing + self.sizes.texts + (autoencoder.tile_decode if tiled else autoencoder.decode),
        }

    @property
    def loading(self) -> int:
        """What is held while encoders are read by their libraries, one after the other, and packed. They come before
        all else."""
        kept = [
            encoder.part.weights
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
            if place is not Place.DISK
        ]
        return sum(kept) + max((encoder.packed_later for encoder in self.sizes.encoders), default=0)

    def _visit(self, encoder: Encoder, place: Place) -> int:
        """What an encoder's weights take on the device while it reads."""
        part = encoder.part
        if self.is_shared and place is Place.DISK:
            return encoder.unpacked
        return part.rest + min(IN_FLIGHT, len(part.blocks)) * part.largest_block

    @property
    def peak(self) -> int:
        """The most that the device holds at any time, with the reserve."""
        return max(self.phases.values()) + self.reserve + (self.host_standing if self.is_shared else 0)

    @property
    def host_standing(self) -> int:
        """Weights that stay in host memory."""
        streamed = self.streamed
        encoders = sum(
            encoder.part.weights
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
            if place is Place.HOST
        )
        return encoders + sum(part.blocks[index] for part in self.sizes.transformers for index in streamed)

    @property
    def host_peak(self) -> int:
        """The same, while an encoder that was on disk reads, or one that is packed is read by its library."""
        if self.is_shared:
            return self.host_standing
        beside = [
            encoder.unpacked if place is Place.DISK else encoder.packed_later
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
        ]
        return self.host_standing + max(beside, default=0)

    @property
    def bus_bytes_per_step(self) -> int:
        """Copied to the device in a step of the edit stage."""
        return sum(self.sizes.transformers[0].blocks[index] for index in self.streamed)

    @property
    def bus_bytes_per_text(self) -> int:
        """Copied to the device for words that were not encoded lately."""
        return sum(
            encoder.part.weights
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
            if place is not Place.DEVICE
        )

    @property
    def disk_bytes_per_text(self) -> int:
        """Read from disk for words that were not encoded lately."""
        return sum(
            encoder.part.weights
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
            if place is Place.DISK
        )

    @property
    def cost(self) -> float:
        """For comparing plans: seconds of copying in an edit of 50 steps with one new text, if nothing overlapped."""
        bus = STEPS_SHOWN * self.bus_bytes_per_step + self.bus_bytes_per_text
        return bus / BUS_BYTES_PER_SECOND + self.disk_bytes_per_text / DISK_BYTES_PER_SECOND

    def rows(self) -> list[tuple[str, str, str]]:
        """The plan as a table: part, where, size."""
        rows = [
            (encoder.part.name, f"{place.value}{WHILE_READING[place]}", gigabytes(encoder.part.weights))
            for encoder, place in zip(self.sizes.encoders, self.arrangement.encoders, strict=True)
        ]
        for part in self.sizes.transformers:
            count, streamed = len(part.blocks), len(self.streamed)
            where = f"on the device, {count} blocks"
            if streamed:
                where = (
                    f"{count - streamed} of {count} blocks on the device, {streamed} streamed, {self.slots} at a time"
                )
            rows.append((part.name, where, gigabytes(part.own_weights)))
        if self.sizes.quantization is not Quantization.NONE:
            rows.append(("quantization", "weights of wide layers", self.sizes.quantization.value))
        how = "on the device, works in tiles" if self.arrangement.tiled else "on the device"
        rows.append(("vae", how, gigabytes(self.sizes.autoencoder.weights)))
        rows += [(f"peak: {phase}", "of the device", gigabytes(size)) for phase, size in self.phases.items()]
        rows.append(("reserve", "driver, workspaces, gaps", gigabytes(self.reserve)))
        rows.append(("peak", "of the device, with the reserve", gigabytes(self.peak)))
        if self.host_peak:
            rows.append(("host memory", "weights kept, and read for new words", gigabytes(self.host_peak)))
        if self.bus_bytes_per_text:
            rows.append(("cost: new words", "copied to the device", gigabytes(self.bus_bytes_per_text)))
        if self.disk_bytes_per_text:
            rows.append(("cost: new words", "read from disk", gigabytes(self.disk_bytes_per_text)))
        if self.bus_bytes_per_step:
            rows.append(("cost: each step", "copied to the device", gigabytes(self.bus_bytes_per_step)))
        return rows

    def table(self) -> str:
        """The same as text."""
        rows = self.rows()
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{name:<{first}}  {where:<{second}}  {size:>9}" for name, where, size in rows)


WHILE_READING = {Place.DEVICE: "", Place.HOST: ", block by block while it reads", Place.DISK: ", read for new words"}


def everything_resident(sizes: ModelSizes, *, reserve: int = RESERVE_BYTES, is_shared: bool = False) -> MemoryPlan:
    """The plan in which nothing moves."""
    blocks = len(sizes.transformers[0].blocks)
    return MemoryPlan(
        sizes, Arrangement((Place.DEVICE,) * len(sizes.encoders), blocks), reserve=reserve, is_shared=is_shared
    )


def choose(sizes: ModelSizes, room: Room) -> MemoryPlan:
    """The cheapest plan that fits. One that gives other numbers (tiles) is taken only where no exact one fits.

    Raises:
        MemoryTooSmall: none fits; says what would.
    """
    for tiled in (False, True):
        fitting = [plan for plan in _candidates(sizes, room, tiled=tiled) if _fits(plan, room)]
        if fitting:
            return min(fitting, key=lambda plan: (plan.cost, plan.host_peak, -plan.peak))
    raise MemoryTooSmall(_what_would_do(sizes, room))


def choose_in(quantization: Quantization, room: Room, sizes_of: Callable[[Quantization], ModelSizes]) -> MemoryPlan:
    """As `choose`, for a model in ``quantization``; where it does not fit as it is, the refusal says in what it would.

    Raises:
        MemoryTooSmall: see `choose`.
    """
    try:
        return choose(sizes_of(quantization), room)
    except MemoryTooSmall as refusal:
        if quantization is not Quantization.NONE:
            raise
        raise MemoryTooSmall(f"{refusal}{_advice(room, sizes_of)}") from None


def _advice(room: Room, sizes_of: Callable[[Quantization], ModelSizes]) -> str:
    """The quantization with the most bits that fits, in words; empty where none does."""
    for smaller in (Quantization.INT8, Quantization.NF4):
        with contextlib.suppress(MemoryTooSmall):
            return f"; with quantization {smaller.value} it fits, in {ceiling(choose(sizes_of(smaller), room).peak)}"
    return ""


def _candidates(sizes: ModelSizes, room: Room, *, tiled: bool) -> Iterator[MemoryPlan]:
    """For each way to place the encoders, as many resident blocks as fit, and none."""
    blocks = len(sizes.transformers[0].blocks)
    # Host memory that is the device's own gains nothing: such a plan would only copy.
    places = (Place.DEVICE, Place.DISK) if room.is_shared else tuple(Place)
    counts = [blocks] if room.is_shared else [*range(blocks, -1, -1)]
    for encoders in itertools.product(places, repeat=len(sizes.encoders)):
        for resident in counts:
            plan = MemoryPlan(sizes, Arrangement(encoders, resident, tiled), room.reserve, room.is_shared)
            if plan.peak <= room.device or resident == counts[-1]:
                yield plan
                break


def _fits(plan: MemoryPlan, room: Room) -> bool:
    return plan.peak <= room.device and (plan.is_shared or room.host is None or plan.host_peak <= room.host)


def _what_would_do(sizes: ModelSizes, room: Room) -> str:
    """In words: the smallest device that this host memory allows, else the host memory that is missing."""
    nothing = Room(0, room.host, room.is_shared, room.reserve)
    leanest = [*_candidates(sizes, nothing, tiled=True)]
    allowed = [plan for plan in leanest if room.is_shared or room.host is None or plan.host_peak <= room.host]
    least = min(leanest, key=lambda plan: (plan.peak, plan.host_peak))
    if allowed:
        least = min(allowed, key=lambda plan: (plan.peak, plan.host_peak))
    message = (
        f"{sizes.name} does not fit into {gigabytes(room.device)}: the smallest that would do is {ceiling(least.peak)}"
    )
    if room.is_shared:
        return f"{message}; choose dtype bfloat16, another device, or a smaller model"
    if allowed and (room.host is None or least.host_peak <= room.host):
        return f"{message}, with {ceiling(least.host_peak)} of host memory"
    thrifty = min(leanest, key=lambda plan: (plan.host_peak, plan.peak))
    return (
        f"{sizes.name} does not fit into {gigabytes(room.device)} and {gigabytes(room.host or 0)} of host memory: with "
        f"{ceiling(thrifty.peak)} it needs {ceiling(thrifty.host_peak)} of host memory, with "
        f"{ceiling(everything_resident(sizes, reserve=room.reserve).peak)} none"
    )


def spread(count: int, resident: int) -> tuple[int, ...]:
    """Which of ``count`` blocks are streamed when ``resident`` are not, as evenly as it goes."""
    streamed = max(0, count - resident)
    return tuple((2 * index + 1) * count // (2 * streamed) for index in range(streamed))


def parse_memory(text: str) -> int | None:
    """``24GB``, ``23.5 GiB``, ``24`` (gigabytes): bytes; None for ``auto``.

    Raises:
        InputInvalid: something else.
    """
    if text.strip().lower() == AUTO:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in UNITS or float(found[1]) == 0:
        raise InputInvalid(f"{text} is not an amount of memory; write auto, 24GB or 23.5GiB", field="memory")
    return int(float(found[1]) * UNITS[found[2]])


def gigabytes(size: int) -> str:
    """For a person to read."""
    return f"{size / 1e9:.2f} GB" if size >= 10**7 else f"{size / 1e6:.2f} MB"


def ceiling(size: int) -> str:
    """An amount that is enough, short enough to type."""
    return f"{-(-size // 10**8) / 10:.1f} GB" if size >= 10**8 else f"{-(-size // 10**4) / 100:.2f} MB"
