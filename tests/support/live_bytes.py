"""Counts the bytes of all tensors that are alive at once while something runs; works on a CPU and on "meta"."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """``peak`` is the most that was alive of what was made inside, views counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        taken = {id(one.untyped_storage()) for one in tree_iter((args, kwargs or {})) if isinstance(one, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), taken)
        return result

    def _count(self, storage: torch.UntypedStorage, taken: set[int]) -> None:
        key = id(storage)
        if key in self._known or key in taken:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone(_: Any) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
