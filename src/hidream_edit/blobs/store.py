"""The blob store: bytes in an object store, facts in the database, and an order of writes that survives a crash.

Bytes are stored before their row, and a row is removed before its bytes. So a crash can leave bytes without a row,
which nobody sees and a sweep finds, and never a row without bytes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from hidream_edit.domain.blobs import Access, BlobFacts, BlobRows, Objects
from hidream_edit.domain.errors import BlobNotFound, StorageQuotaReached

GROUP = 500
SWEEP_SECONDS = 6 * 3600.0
# Bytes without a row may be an upload that is still under way; after a day it is not.
SWEEP_AGE_SECONDS = 24 * 3600.0
_ID = re.compile(r"[A-Za-z0-9_-]{16,80}")


class Blobs:
    """See `BlobStore`."""

    def __init__(self, objects: Objects, rows: BlobRows) -> None:
        self._objects, self._rows = objects, rows

    def put(
        self,
        pieces: Iterator[bytes],
        content_type: str,
        *,
        now: float,
        keep_seconds: float | None = None,
        file_name: str = "",
        blob_id: str | None = None,
        caller: str = "",
        access: Access = Access.ALLOW,
        bytes_max: int | None = None,
    ) -> BlobFacts:
        name = blob_id or secrets.token_urlsafe(24)
        if not _ID.fullmatch(name):
            raise BlobNotFound(name)
        if bytes_max is not None:
            left = bytes_max - self._rows.bytes_of(caller, now=now)
            pieces = _no_more_than(left, pieces, StorageQuotaReached(bytes_max))
        size = self._objects.put(name, pieces, content_type)
        expires_at = None if keep_seconds is None else now + keep_seconds
        facts = BlobFacts(name, content_type, size, now, expires_at, file_name, caller, access)
        try:
            self._rows.add(facts, bytes_max=bytes_max)
        except StorageQuotaReached:  # used up by another upload in the meantime
            self.delete(name)
            raise
        return facts

    def facts(self, blob_id: str, *, now: float) -> BlobFacts:
        facts = self._rows.find(blob_id) if _ID.fullmatch(blob_id) else None
        if facts is None or (facts.expires_at is not None and facts.expires_at <= now):
            raise BlobNotFound(blob_id)
        return facts

    def read(self, blob_id: str, *, now: float, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        left = self.facts(blob_id, now=now).size - start
        wanted = left if length is None else min(left, length)
        return self._objects.read(blob_id, start=start, length=wanted) if wanted > 0 else iter(())

    def delete(self, blob_id: str) -> None:
        self._rows.remove(blob_id)
        self._objects.delete(blob_id)

    def bytes_stored(self) -> int:
        return self._rows.bytes_in_all()

    def prune(self, *, now: float) -> int:
        count = 0
        while expired := self._rows.take_expired(now=now, limit=GROUP):
            for name in expired:
                self._objects.delete(name)
            count += len(expired)
        if self._rows.begin_sweep(now=now, every_seconds=SWEEP_SECONDS):
            count += self._sweep(until=now - SWEEP_AGE_SECONDS)
        return count

    def _sweep(self, *, until: float) -> int:
        count = 0
        for names in self._objects.names(until=until):
            for name in self._rows.unknown(names):
                self._objects.delete(name)
                count += 1
        return count


def _no_more_than(left: int, pieces: Iterator[bytes], too_much: Exception) -> Iterator[bytes]:
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise too_much
        yield piece
