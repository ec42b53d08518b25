"""Which of the ways to compute less are taken. None of them changes the result by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from hidream_edit.domain.errors import InputInvalid


@dataclass(frozen=True, slots=True)
class Measures:
    """One flag per measure; where all are off, everything is computed as plainly as model.md writes it.

    Tests compare each with the plain path, benchmarks/LOG.md says what each brings.
    """

    trims: bool = False  # rows that nobody reads are left out (model.md 13.1)
    one_pad: bool = False  # equal pads are computed once (model.md 6.1)
    dead_branches: bool = False  # branches that the scales cancel are left out (model.md 8)
    ahead: bool = False  # what noise levels do to the blocks, for all steps of an edit in one product (model.md 13.1)
    one_by_one: bool = False  # branches one after the other: a third of the memory, and it stays in the cache
    fused: bool = False  # Q, K and V as one product, W1 and W3 as another (model.md 14.2)
    grouped: bool = False  # all experts in one product, without waiting for the host (model.md 14)
    compiled: bool = False  # each kind of block compiled: its passes over the tokens become few
    recorded: bool = False  # forwards recorded as CUDA graphs: thousands of launches become one (recorded.py)
    channels_last: bool = False  # the autoencoder's convolutions with channels innermost
    onednn: bool = False  # on a CPU, products and attention by oneDNN, in float32 or bfloat16
    as_stored: bool = False  # weights that only the refine stage reads stay as narrow as their file (as_stored.py)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def changed(self, words: str) -> Measures:
        """These with some on, and those with ``no-`` before their names off: ``compiled,no-grouped``.

        Raises:
            InputInvalid: there is no such measure; says which there are.
        """
        changes: dict[str, bool] = {}
        for word in filter(None, (part.strip() for part in words.split(","))):
            name = word.removeprefix("no-").replace("-", "_")
            if name not in self.names():
                known = ", ".join(self.names())
                raise InputInvalid(
                    f"{word[:80]!r} is no measure; there are {known}, each also with no-", field="measures"
                )
            changes[name] = not word.startswith("no-")
        return replace(self, **changes)

    def without(self, *names: str) -> Measures:
        """These switched off.

        Raises:
            TypeError: there is no such measure.
        """
        return replace(self, **dict.fromkeys(names, False))


PLAIN = Measures()
