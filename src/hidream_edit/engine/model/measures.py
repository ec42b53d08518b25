"""Which of the ways to compute less are taken. None of them changes the result by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from hidream_edit.engine.model.products import onednn_is_here


@dataclass(frozen=True, slots=True)
class Measures:
    """One flag per measure; where all are off, everything is computed as plainly as model.md writes it.

    Tests compare each with the plain path, benchmarks/LOG.md says what each brings.
    """

    trims: bool = False  # rows that nobody reads are left out (model.md 13.1)
    one_pad: bool = False  # equal pads are computed once (model.md 6.1)
    dead_branches: bool = False  # branches that the scales cancel are left out (model.md 8)
    one_by_one: bool = False  # branches one after the other: a third of the memory, and it stays in the cache
    onednn: bool = False  # on a CPU, products and attention by oneDNN

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def without(self, *names: str) -> Measures:
        """These switched off.

        Raises:
            TypeError: there is no such measure.
        """
        return replace(self, **dict.fromkeys(names, False))


PLAIN = Measures()


def measures_for(device: torch.device, dtype: torch.dtype) -> Measures:
    """All that help on this device."""
    on_cpu = device.type == "cpu"
    return Measures(
        trims=True,
        one_pad=True,
        dead_branches=True,
        one_by_one=on_cpu,
        onednn=on_cpu and dtype is torch.float32 and onednn_is_here(),
    )
