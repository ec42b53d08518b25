"""The job store on PostgreSQL: any number of API processes and runners."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import psycopg
from psycopg.rows import dict_row

from hidream_edit.domain.errors import StoreUnavailable, StoreUnusable
from hidream_edit.queue.postgres.hints import NotifyHints
from hidream_edit.queue.queries import read_migrations, read_queries
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.statements import Row
from hidream_edit.queue.stopwatch import READ, WRITE

CONNECT_SECONDS = 10
MIGRATION_LOCK = 4_771_001

_PACKAGE = resources.files("hidream_edit.queue.postgres")
# The files name parameters as SQLite does, so that both can be read side by side.
QUERIES = {
    name: re.sub(r":(\w+)", r"%(\1)s", statement.replace("%", "%%"))
    for name, statement in read_queries(_PACKAGE.joinpath("queries.sql")).items()
}
Connection = psycopg.Connection[dict[str, Any]]


@contextmanager
def _available() -> Iterator[None]:
    """Troubles of the connection become one error of ours, without what the driver may know of the address."""
    try:
        yield
    except psycopg.OperationalError as trouble:
        raise StoreUnavailable("the database does not answer right now") from trouble


def look(url: str) -> tuple[int, int | None, float]:
    """The newest schema that this version knows, the one of the database (None where there is none yet), and its time.

    Raises:
        StoreUnusable: it cannot be reached.
    """
    known = read_migrations(_PACKAGE.joinpath("migrations"))[-1][0]
    try:
        with psycopg.connect(url, row_factory=dict_row, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute(QUERIES["database_time"]).fetchone()
            now = 0.0 if row is None else float(row["now"])
            is_made = connection.execute("SELECT to_regclass('schema_versions') IS NOT NULL AS is_made").fetchone()
            if is_made is None or not is_made["is_made"]:
                return known, None, now
            version = connection.execute("SELECT max(version) AS version FROM schema_versions").fetchone()
    except psycopg.Error as problem:
        # The message of the driver may repeat the password of the address.
        raise StoreUnusable("the database cannot be reached; check its address and that it runs") from problem
    return known, None if version is None else version["version"], now


class PostgresStore(SqlStore):
    """See `JobStore`. One connection per thread, opened again when it was lost.

    Raises:
        StoreUnusable: the database cannot be reached, or a newer version made its schema.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._hints = url, NotifyHints(url)
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        try:
            self._migrate()
        except psycopg.OperationalError as problem:
            # The message of the driver may repeat the password of the address.
            raise StoreUnusable("the database cannot be reached; check its address and that it runs") from problem

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
        row = self.connection().execute("SELECT max(version) AS version FROM schema_versions").fetchone()
        return int(row["version"]) if row is not None and row["version"] is not None else 0

    def _migrate(self) -> None:
        steps = read_migrations(_PACKAGE.joinpath("migrations"))
        connection = self.connection()
        with connection.transaction():
            # Processes that start together do this one after the other.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            connection.execute("CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY)")
            version = self.schema()
            if version > steps[-1][0]:
                raise StoreUnusable(
                    f"the database has schema {version}, this version knows {steps[-1][0]}: use the newer program"
                )
            for number, script in steps:
                if number > version:
                    connection.execute(script)
                    connection.execute("INSERT INTO schema_versions VALUES (%s)", (number,))

    def pause(self, seconds: float) -> None:
        self._hints.pause(seconds)

    def close(self) -> None:
        self._hints.close()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
