"""Words of which one has to be chosen."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from hidream_edit.domain.errors import InputInvalid

Kind = TypeVar("Kind", bound=StrEnum)


def choice(kind: type[Kind], word: str, *, field: str) -> Kind:
    """The member that ``word`` names.

    Raises:
        InputInvalid: there is none by that name; says which there are.
    """
    try:
        return kind(word)
    except ValueError:
        *others, last = (f"'{one}'" for one in kind)
        expected = f"{', '.join(others)} or {last}"
        message = f"{field} should be {expected}, not {word[:80]!r}"
        raise InputInvalid(message, field=field, kind="literal_error", context={"expected": expected}) from None
