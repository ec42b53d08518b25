"""The job store on PostgreSQL: any number of API processes and runners."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import psycopg
from psycopg.rows import dict_row

from hidream_edit.domain.errors import StoreUnavailable, StoreUnusable
from hidream_edit.queue.migrations import (
    PROMISES_BEGIN,
    Migration,
    Schemas,
    compared,
    read_migrations,
    steps_to_take,
)
from hidream_edit.queue.postgres.hints import NotifyHints
from hidream_edit.queue.queries import read_queries
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.statements import Row
from hidream_edit.queue.stopwatch import READ, WRITE

CONNECT_SECONDS = 10
MIGRATION_LOCK = 4_771_001
LOCK_SECONDS = 5

_PACKAGE = resources.files("hidream_edit.queue.postgres")
# The files name parameters as SQLite does, so that both can be read side by side.
QUERIES = {
    name: re.sub(r":(\w+)", r"%(\1)s", statement.replace("%", "%%"))
    for name, statement in read_queries(_PACKAGE.joinpath("queries.sql")).items()
}
MIGRATIONS = read_migrations(_PACKAGE.joinpath("migrations"))
Connection = psycopg.Connection[dict[str, Any]]


@contextmanager
def _available() -> Iterator[None]:
    """Troubles of the connection become one error of ours, without what the driver may know of the address."""
    try:
        yield
    except psycopg.OperationalError as trouble:
        raise StoreUnavailable("the database does not answer right now") from trouble


@contextmanager
def _usable() -> Iterator[None]:
    """Troubles at the beginning, with what to do about them."""
    try:
        yield
    except psycopg.errors.LockNotAvailable as problem:
        raise StoreUnusable(
            f"the schema cannot be brought up to date: something has held a table for {LOCK_SECONDS} s, perhaps a "
            "backup; try again when it is over"
        ) from problem
    except psycopg.OperationalError as problem:
        # The message of the driver may repeat the password of the address.
        raise StoreUnusable("the database cannot be reached; check its address and that it runs") from problem


def look(url: str) -> tuple[Schemas, float]:
    """The newest schema that this version knows and that of the database, and the database's time.

    Raises:
        StoreUnusable: it cannot be reached.
    """
    try:
        with psycopg.connect(url, row_factory=dict_row, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute(QUERIES["database_time"]).fetchone()
            now = 0.0 if row is None else float(row["now"])
            is_made = connection.execute("SELECT to_regclass('schema_versions') IS NOT NULL AS is_made").fetchone()
            if is_made is None or not is_made["is_made"]:
                return compared(MIGRATIONS, seen=0), now
            return _schemas(connection, MIGRATIONS), now
    except psycopg.Error as problem:
        # The message of the driver may repeat the password of the address.
        raise StoreUnusable("the database cannot be reached; check its address and that it runs") from problem


def _schemas(connection: Connection, steps: Sequence[Migration]) -> Schemas:
    seen = _number(connection, "SELECT max(version) AS version FROM schema_versions")
    oldest = _number(connection, QUERIES["oldest_program"]) if seen >= PROMISES_BEGIN else 0
    return compared(steps, seen=seen, oldest=oldest)


def _number(connection: Connection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    return 0 if row is None else int(next(iter(row.values())) or 0)


class PostgresStore(SqlStore):
    """See `JobStore`. One connection per thread, opened again when it was lost.

    Raises:
        StoreUnusable: the database cannot be reached, a newer version made it and this one cannot work with it, or it
            has to be brought up to date and somebody holds a table.
    """

    def __init__(self, url: str, *, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        super().__init__()
        self._migrations = migrations
        self._url, self._hints = url, NotifyHints(url)
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        try:
            with _usable():
                self._migrate()
        except BaseException:
            self.close()
            raise

    def connection(self) -> Connection:
        """This thread's own."""
        existing: Connection | None = getattr(self._local, "connection", None)
        if existing is not None and not existing.closed:
            return existing
        connection = psycopg.connect(
            self._url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS, prepare_threshold=3
        )
        self._local.connection = connection
        with self._lock:
            self._connections = [*(one for one in self._connections if not one.closed), connection]
        return connection

    @contextmanager
    def writing(self) -> Iterator[object]:
        with self.stopwatch.times(WRITE), _available():
            connection = self.connection()
            with connection.transaction():
                connection.execute(QUERIES["lock_clock"])
                yield connection
            self._hints.give()

    def fetch(self, name: str, /, **values: Any) -> list[Row]:
        with self.stopwatch.times(READ), _available():
            return list(self.connection().execute(QUERIES[name], values).fetchall())

    def execute(self, name: str, /, **values: Any) -> int:
        with _available():
            return self.connection().execute(QUERIES[name], values).rowcount

    def schema(self) -> int:
        """Number of the last migration that the database has seen."""
        return _schemas(self.connection(), self._migrations).seen

    def _migrate(self) -> None:
        connection = self.connection()
        with connection.transaction():
            # Processes that start together do this one after the other.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            connection.execute("CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY)")
            schemas = _schemas(connection, self._migrations)
            steps = steps_to_take(self._migrations, schemas, "the database")
            if steps and schemas.seen:
                # Others may be at work. Who waits for a table keeps all others from it, so that is not for long; and
                # writers stand in line behind the steps, so that neither holds a table that the other waits for.
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_SECONDS}s",))
                connection.execute(QUERIES["lock_clock"])
            for step in steps:
                connection.execute(step.script)
                connection.execute("INSERT INTO schema_versions VALUES (%s)", (step.number,))
                if step.number > PROMISES_BEGIN:
                    connection.execute(QUERIES["raise_oldest"], {"oldest": step.oldest})

    def pause(self, seconds: float) -> None:
        self._hints.pause(seconds)

    def close(self) -> None:
        self._hints.close()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
