"""The suite beside this file is what every job store must do; a store is added by adding it to STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import newer_program
from tests.support.postgres import new_database

from hidream_edit.domain.interfaces import JobStore
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.testing.memory_store import MemoryStore


def on_a_newer_sqlite(folder: Path) -> JobStore:
    file = folder / "jobs.sqlite3"
    newer_program.on_sqlite(file).close()
    return SqliteStore(file, synchronous="normal")


def on_a_newer_postgres(_: Path) -> JobStore:
    url = new_database()
    newer_program.on_postgres(url).close()
    return PostgresStore(url)


STORES: dict[str, Callable[[Path], JobStore]] = {
    "sqlite": lambda folder: SqliteStore(folder / "jobs.sqlite3", synchronous="normal"),
    "postgres": lambda _: PostgresStore(new_database()),
    "sqlite of a newer program": on_a_newer_sqlite,
    "postgres of a newer program": on_a_newer_postgres,
    "memory": lambda _: MemoryStore(),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    opened = STORES[request.param](tmp_path)
    yield opened
    opened.close()
