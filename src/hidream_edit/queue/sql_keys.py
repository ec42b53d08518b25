"""Keys of callers, in the same database as the jobs."""

from __future__ import annotations

from hidream_edit.domain.keys import Key, KeyAction, Scope
from hidream_edit.domain.quotas import Quota
from hidream_edit.queue.statements import Row, Statements


class SqlKeys:
    """See `KeyStore`."""

    def __init__(self, store: Statements) -> None:
        self._store = store

    def add(self, key: Key) -> None:
        with self._store.writing():
            self._store.execute(
                "insert_key",
                id=key.id,
                name=key.name,
                secret_hash=key.secret_hash,
                created_at=key.created_at,
                scope=key.scope.value,
                rate_per_minute=key.quota.rate_per_minute,
                concurrent_max=key.quota.concurrent_max,
                bytes_max=key.quota.bytes_max,
            )
            action = f"created for {key.name}, scope {key.scope.value}"
            self._store.execute("insert_key_action", key_id=key.id, at=key.created_at, action=action)

    def find(self, key_id: str) -> Key | None:
        rows = self._store.fetch("key_by_id", id=key_id)
        return _key(rows[0]) if rows else None

    def all(self) -> list[Key]:
        return [_key(row) for row in self._store.fetch("all_keys")]

    def is_empty(self) -> bool:
        (row,) = self._store.fetch("count_keys")
        return int(row["number"]) == 0

    def revoke(self, key_id: str, *, now: float) -> bool:
        with self._store.writing():
            is_revoked = self._store.execute("revoke_key", id=key_id, now=now) == 1
            if is_revoked:
                self._store.execute("insert_key_action", key_id=key_id, at=now, action="revoked")
            return is_revoked

    def actions(self, *, limit: int) -> list[KeyAction]:
        return [KeyAction(**row) for row in self._store.fetch("key_actions", limit=limit)]


def _key(row: Row) -> Key:
    return Key(
        row["id"],
        row["name"],
        row["secret_hash"],
        row["created_at"],
        row["revoked_at"],
        Scope(row["scope"]),
        Quota(row["rate_per_minute"], row["concurrent_max"], row["bytes_max"]),
    )
