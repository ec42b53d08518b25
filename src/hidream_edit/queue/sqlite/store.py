"""The job store on SQLite: one file, one writer at a time, readers beside it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from hidream_edit.domain.errors import StoreUnavailable, StoreUnusable
from hidream_edit.queue.migrations import (
    PROMISES_BEGIN,
    Migration,
    Schemas,
    compared,
    read_migrations,
    steps_to_take,
)
from hidream_edit.queue.queries import read_queries
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.sqlite.hints import SocketHints
from hidream_edit.queue.statements import Row
from hidream_edit.queue.stopwatch import READ, WRITE

BUSY_SECONDS = 30.0
BUSY_PAUSE_SECONDS = 0.00025
SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}

_PACKAGE = resources.files("hidream_edit.queue.sqlite")
QUERIES = read_queries(_PACKAGE.joinpath("queries.sql"))
MIGRATIONS = read_migrations(_PACKAGE.joinpath("migrations"))


def _patiently(connection: sqlite3.Connection, statement: str, values: Mapping[str, Any] | None = None) -> Any:
    """Execute, and try again while another process holds the file.

    SQLite's own waiting sleeps up to a tenth of a second at a time, in which many others could have written.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return connection.execute(statement, values or {})
        except sqlite3.OperationalError as trouble:
            is_busy = trouble.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > until:
                raise
        time.sleep(BUSY_PAUSE_SECONDS)


@contextmanager
def _available() -> Iterator[None]:
    """Troubles of the file become one error of ours."""
    try:
        yield
    except sqlite3.OperationalError as trouble:
        raise StoreUnavailable(f"the database cannot be used right now: {trouble}") from trouble


def look(file: Path) -> Schemas:
    """The newest schema that this version knows, and that of ``file``.

    Raises:
        StoreUnusable: it is not a database, or cannot be read.
    """
    if not file.exists():
        return compared(MIGRATIONS, seen=0)
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        ) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return _schemas(connection, MIGRATIONS)
    except sqlite3.DatabaseError as problem:
        raise StoreUnusable(f"{file} cannot be used as a database: {problem}") from problem


def _schemas(connection: sqlite3.Connection, steps: Sequence[Migration]) -> Schemas:
    (seen,) = connection.execute("PRAGMA user_version").fetchone()
    promised = connection.execute(QUERIES["oldest_program"]).fetchone() if seen >= PROMISES_BEGIN else (0,)
    return compared(steps, seen=int(seen), oldest=int(promised[0]))


class SqliteStore(SqlStore):
    """See `JobStore`. ``synchronous`` "full" answers after the disk has the data, "normal" risks the last moments.

    One connection per thread; writes of one process queue at a lock, those of others at SQLite's own.

    Raises:
        StoreUnusable: a newer version made the file and this one cannot work with it, or it is not a database.
    """

    def __init__(self, file: Path, *, synchronous: str = "full", migrations: Sequence[Migration] = MIGRATIONS) -> None:
        super().__init__()
        self._migrations = migrations
        self._file, self._synchronous = file, SYNCHRONOUS[synchronous]
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._hints = SocketHints(file.with_name(f"{file.stem}-hints"))
        try:
            self._migrate()
        except sqlite3.DatabaseError as problem:
            self.close()
            raise StoreUnusable(f"{file} cannot be used as a database: {problem}") from problem
        except BaseException:
            self.close()
            raise

    def connection(self) -> sqlite3.Connection:
        """This thread's own."""
        existing: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        connection = sqlite3.connect(self._file, timeout=0, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        _patiently(connection, "PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        self._local.connection = connection
        with self._lock:
            self._connections.append(connection)
        return connection

    def schema(self) -> int:
        """Number of the last migration that the file has seen."""
        (version,) = _patiently(self.connection(), "PRAGMA user_version").fetchone()
        return int(version)

    def _migrate(self) -> None:
        connection = self.connection()
        # The write lock makes processes that start together do this one after the other.
        _patiently(connection, "BEGIN IMMEDIATE")
        try:
            for step in steps_to_take(self._migrations, _schemas(connection, self._migrations), str(self._file)):
                for statement in _statements(step.script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {step.number}")
                if step.number > PROMISES_BEGIN:
                    connection.execute(QUERIES["raise_oldest"], {"oldest": step.oldest})
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed at the end, or undone by an exception."""
        connection = self.connection()
        with self.stopwatch.times(WRITE), self._lock, _available():
            _patiently(connection, "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._hints.give()

    def fetch(self, name: str, /, **values: Any) -> list[Row]:
        with self.stopwatch.times(READ), _available():
            return [dict(row) for row in _patiently(self.connection(), QUERIES[name], values)]

    def execute(self, name: str, /, **values: Any) -> int:
        with _available():
            return int(_patiently(self.connection(), QUERIES[name], values).rowcount)

    def pause(self, seconds: float) -> None:
        self._hints.pause(seconds)

    def close(self) -> None:
        self._hints.close()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would commit before each."""
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""
