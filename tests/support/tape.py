"""A recorder for machines without a GPU, with the rules of a CUDA graph.

It keeps every operation with the very tensors that it read and wrote. Running them again runs no Python of the model:
what was baked in stays baked in, what was not copied is not there, and an operation that asks the host is refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASK_THE_HOST = ("aten.item", "aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.equal")


class HostAsked(RuntimeError):
    """A capture cannot wait for the host."""


class Tape(TorchDispatchMode):
    """Operations in their order, each with the memory that its result lies in."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        super().__init__()
        self._operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        with self:
            self.output = compute()
        self.forget()  # a capture computes nothing

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if str(func).startswith(ASK_THE_HOST):
            raise HostAsked(f"{func} while recording")
        given = func(*args, **(kwargs or {}))
        read = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs))}
        news = [tensor for tensor in tensors_in(given) if tensor.untyped_storage().data_ptr() not in read]
        if news or func._schema.is_mutable:  # the others are views, which stay what they are
            self._operations.append((func, args, kwargs or {}, news))
        return given

    @torch.inference_mode()
    def run(self) -> None:
        """Do all of it again, in the same memory."""
        for func, args, kwargs, news in self._operations:
            given = func(*args, **kwargs)
            if news:
                for place, value in zip(news, tensors_in(given), strict=True):
                    place.copy_(value)

    @torch.inference_mode()
    def forget(self) -> None:
        """Lose what was computed, as memory is lost to whoever shares it."""
        for _, _, _, news in self._operations:
            for place in news:
                place.fill_(torch.nan if place.is_floating_point() else 0)


class TapeRecorder:
    """See `hidream_edit.engine.model.recorded.Recorder`; its tapes share their memory, so each spoils all others."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0
        self._tapes: weakref.WeakSet[Tape] = weakref.WeakSet()

    @property
    def living(self) -> int:
        """Recordings that somebody still holds."""
        return len(self._tapes)

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        compute()
        tape = Tape(compute)
        self._tapes.add(tape)
        self.recorded += 1

        def replay() -> Tensor:
            for other in self._tapes:
                other.forget()
            tape.run()
            self.replayed += 1
            return tape.output

        return replay


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
