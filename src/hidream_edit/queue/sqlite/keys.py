"""Keys of callers in the same file as the jobs."""

from __future__ import annotations

import sqlite3
from importlib import resources

from hidream_edit.domain.keys import Key
from hidream_edit.queue.queries import read_queries
from hidream_edit.queue.sqlite.store import SqliteStore

QUERIES = read_queries(resources.files("hidream_edit.queue.sqlite").joinpath("keys.sql"))


class SqliteKeys:
    """See `KeyStore`."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def add(self, key: Key) -> None:
        with self._store.writing() as connection:
            values = {"id": key.id, "name": key.name, "secret_hash": key.secret_hash, "created_at": key.created_at}
            connection.execute(QUERIES["insert_key"], values)

    def find(self, key_id: str) -> Key | None:
        row = self._store.connection().execute(QUERIES["key_by_id"], {"id": key_id}).fetchone()
        return None if row is None else _key(row)

    def all(self) -> list[Key]:
        return [_key(row) for row in self._store.connection().execute(QUERIES["all_keys"])]

    def is_empty(self) -> bool:
        (count,) = self._store.connection().execute(QUERIES["count_keys"]).fetchone()
        return int(count) == 0

    def revoke(self, key_id: str, *, now: float) -> bool:
        with self._store.writing() as connection:
            return connection.execute(QUERIES["revoke_key"], {"id": key_id, "now": now}).rowcount == 1


def _key(row: sqlite3.Row) -> Key:
    return Key(row["id"], row["name"], row["secret_hash"], row["created_at"], row["revoked_at"])
