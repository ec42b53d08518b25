"""Named statements, run inside a transaction or alone: what the stores need of a database.

The databases differ in how they are spoken to and in a few statements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from hidream_edit.queue.stopwatch import Stopwatch

Row = Mapping[str, Any]


class Statements(ABC):
    """A database. Writes happen one after the other, in whatever process; each is one transaction."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()

    @abstractmethod
    def writing(self) -> AbstractContextManager[object]:
        """A transaction that no other writer overlaps, committed at the end or undone by an exception."""

    @abstractmethod
    def fetch(self, name: str, /, **values: Any) -> list[Row]:
        """Rows of a named statement, inside this thread's transaction where there is one."""

    @abstractmethod
    def execute(self, name: str, /, **values: Any) -> int:
        """Run a named statement; returns how many rows it changed."""

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Sleep until somebody changes something, as far as that can be known."""

    @abstractmethod
    def schema(self) -> int:
        """Number of the last migration that the database has seen."""

    @abstractmethod
    def close(self) -> None:
        """See `JobStore`."""

    def _one(self, name: str, /, **values: Any) -> Row | None:
        return next(iter(self.fetch(name, **values)), None)

    def _number(self, name: str, /, **values: Any) -> int:
        row = self._one(name, **values)
        return int(next(iter(dict(row).values()))) if row is not None else 0
