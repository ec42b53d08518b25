"""Facts of blobs, in the same database as the jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hidream_edit.domain.blobs import Access, BlobFacts
from hidream_edit.domain.errors import StorageQuotaReached
from hidream_edit.queue.statements import Statements


class SqlBlobRows:
    """See `BlobRows`."""

    def __init__(self, store: Statements) -> None:
        self._store = store

    def add(self, facts: BlobFacts, *, bytes_max: int | None) -> None:
        with self._store.writing():
            self._store.execute(
                "keep_blob",
                id=facts.id,
                caller=facts.caller,
                content_type=facts.content_type,
                size=facts.size,
                created_at=facts.created_at,
                expires_at=facts.expires_at,
                file_name=facts.file_name,
                access=facts.access.value,
            )
            if bytes_max is not None and self.bytes_of(facts.caller, now=facts.created_at) > bytes_max:
                raise StorageQuotaReached(bytes_max)

    def find(self, blob_id: str) -> BlobFacts | None:
        rows = self._store.fetch("blob_by_id", id=blob_id)
        return BlobFacts(**{**rows[0], "access": Access(rows[0]["access"])}) if rows else None

    def remove(self, blob_id: str) -> None:
        with self._store.writing():
            self._store.execute("forget_blob", id=blob_id)

    def bytes_of(self, caller: str, *, now: float) -> int:
        (row,) = self._store.fetch("bytes_of_caller", caller=caller, now=now)
        return int(row["bytes"])

    def bytes_in_all(self) -> int:
        (row,) = self._store.fetch("all_bytes")
        return int(row["bytes"])

    def take_expired(self, *, now: float, limit: int) -> Sequence[str]:
        if not self._store.fetch("expired_blobs", now=now, limit=1):
            return ()
        with self._store.writing():
            expired = [row["id"] for row in self._store.fetch("expired_blobs", now=now, limit=limit)]
            for blob_id in expired:
                self._store.execute("forget_blob", id=blob_id)
            return expired

    def unknown(self, blob_ids: Sequence[str]) -> Sequence[str]:
        known = {row["id"] for row in self._store.fetch("known_blobs", ids=json.dumps(list(blob_ids)))}
        return [blob_id for blob_id in blob_ids if blob_id not in known]

    def begin_sweep(self, *, now: float, every_seconds: float) -> bool:
        (row,) = self._store.fetch("last_sweep")
        if row["swept_at"] > now - every_seconds:
            return False
        with self._store.writing():
            return self._store.execute("begin_sweep", now=now, before=now - every_seconds) == 1
