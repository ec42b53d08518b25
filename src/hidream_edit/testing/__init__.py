"""Doubles that ship: people who build on the API can test their programs without weights."""

from __future__ import annotations

from hidream_edit.testing.memory_store import MemoryStore
from hidream_edit.testing.null_engine import NullEngine

__all__ = ["MemoryStore", "NullEngine"]
