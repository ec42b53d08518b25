"""Decoding in child processes: what a hostile file can bring down is not us."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import resource
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as TooSlow
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessPool

from hidream_edit.domain.errors import PictureTooLarge, PictureUnreadable
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.decode import DecodeLimits, decode

WORKERS = 2  # one may still read a source that was guessed wrongly
GRACE_SECONDS = 10.0  # in which the pool itself has to notice that a child is too slow
TASKS_MAX = 1000  # after which a child is replaced, whatever it may have kept
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Pictures(Protocol):
    """Files → pixels, as a runner needs them. Pixels that are ours are encoded where they are: nothing in them is
    hostile, and a child would be sent more bytes than the file has."""

    def decode(self, data: bytes) -> Picture:
        """Raises PictureUnreadable and its kinds."""

    def close(self) -> None:
        """Release processes."""


class PicturesHere:
    """See `Pictures`; in this process, for pictures that one trusts."""

    def decode(self, data: bytes) -> Picture:
        return decode(data)

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What one picture may cost a child."""

    seconds_max: float = 30.0
    memory_bytes_max: int = 3 * 2**30  # a hundred million pixels in 16 bits take about half of it
    decode: DecodeLimits = field(default_factory=DecodeLimits)


class IsolatedPictures:
    """See `Pictures`. A child that takes too long or too much is killed and replaced; the picture is refused."""

    def __init__(self, limits: ChildLimits | None = None) -> None:
        self._limits = limits or ChildLimits()
        self._lock = threading.Lock()
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=WORKERS,
            max_tasks=TASKS_MAX,
            initializer=_confine,
            initargs=[self._limits.memory_bytes_max],
            context=multiprocessing.get_context("spawn"),  # a fork would copy threads' locks, and CUDA's state
        )

    def start(self) -> None:
        """Start the children, which takes longer than many edits; does not wait for them."""
        self._pool.schedule(_nothing)

    def decode(self, data: bytes) -> Picture:
        """See `pictures.decode.decode`.

        Raises:
            PictureUnreadable: it is damaged, no picture, or not decoded within the time.
            PictureTooLarge: over a limit, or over the memory of a child.
        """
        try:
            outcome = self._done(_decoded, data, self._limits.decode)
        except TooSlow as slow:
            raise PictureUnreadable("the picture took too long to decode") from slow
        except ProcessExpired as died:
            raise PictureTooLarge(
                "the picture needs more memory than is allowed", context={"max_pixels": self._limits.decode.pixels_max}
            ) from died
        if isinstance(outcome, _Refusal):
            raise outcome.error()
        picture: Picture = outcome
        return picture

    def _done(self, function: Callable[..., Any], *arguments: object) -> Any:
        seconds_max = self._limits.seconds_max
        for is_last in (False, True):
            pool = self._pool
            try:
                return pool.schedule(function, args=arguments, timeout=seconds_max).result(seconds_max + GRACE_SECONDS)
            # The library gives a pool up when a child is killed that had nothing to do.
            except (BrokenProcessPool, RuntimeError):
                if is_last:
                    raise
                self._replace(pool)
        raise AssertionError("every attempt returns or raises")

    def _replace(self, broken: ProcessPool) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = self._new_pool()
                broken.stop()

    def close(self) -> None:
        """End the children."""
        self._pool.stop()
        self._pool.join()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An error of ours on its way between processes, which errors with fields of their own do not survive."""

    message: str
    kind: str
    context: dict[str, object]
    is_too_large: bool

    def error(self) -> PictureUnreadable:
        if self.is_too_large:
            return PictureTooLarge(self.message, kind=self.kind, context=self.context)
        return PictureUnreadable(self.message, kind=self.kind, context=self.context)


def _decoded(data: bytes, limits: DecodeLimits) -> Picture | _Refusal:
    try:
        return decode(data, limits=limits)
    except PictureUnreadable as refused:
        return _Refusal(str(refused), refused.kind, refused.context, isinstance(refused, PictureTooLarge))


def _nothing() -> None:
    """A first task: the pool starts its children for it, and they import what they need."""


def _confine(memory_bytes_max: int) -> None:
    """In a child: a cap on memory, no core files, and an end when the parent ends."""
    for what, limit in ((resource.RLIMIT_AS, memory_bytes_max), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a system that knows no such limit
            resource.setrlimit(what, (limit, limit))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
