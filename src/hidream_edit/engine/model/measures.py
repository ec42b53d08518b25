"""Which of the ways to compute less are taken. None of them changes the result by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measures:
    """One flag per measure; where all are off, everything is computed as plainly as model.md writes it.

    Tests compare each with the plain path, benchmarks/LOG.md says what each brings.
    """

    trims: bool = False  # rows that nobody reads are left out (model.md 13.1)
    one_pad: bool = False  # equal pads are computed once (model.md 6.1)


PLAIN = Measures()
ALL = Measures(trims=True, one_pad=True)
