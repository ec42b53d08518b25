"""Blobs in a folder: a file of bytes beside a small file of facts."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from hidream_edit.domain.errors import BlobNotFound
from hidream_edit.domain.interfaces import BlobFacts

PIECE_BYTES = 256 * 1024
_ID = re.compile(r"[A-Za-z0-9_-]{16,80}")


class DiskBlobs:
    """See `BlobStore`. The facts are written last, so a blob without them is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(
        self,
        pieces: Iterator[bytes],
        content_type: str,
        *,
        now: float,
        keep_seconds: float | None = None,
        file_name: str = "",
        blob_id: str | None = None,
    ) -> BlobFacts:
        name = blob_id or secrets.token_urlsafe(24)
        place = self._place(name)
        place.parent.mkdir(exist_ok=True)
        part = place.with_suffix(f".{secrets.token_hex(4)}.part")
        size = 0
        try:
            with part.open("wb") as file:
                for piece in pieces:
                    size += len(piece)
                    file.write(piece)
            expires_at = None if keep_seconds is None else now + keep_seconds
            facts = BlobFacts(name, content_type, size, now, expires_at, file_name)
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        beside = place.with_suffix(".json.part")
        beside.write_text(json.dumps(asdict(facts)), encoding="utf-8")
        beside.replace(place.with_suffix(".json"))
        return facts

    def facts(self, blob_id: str, *, now: float) -> BlobFacts:
        try:
            facts = BlobFacts(**json.loads(self._place(blob_id).with_suffix(".json").read_text(encoding="utf-8")))
        except FileNotFoundError as missing:
            raise BlobNotFound(blob_id) from missing
        if facts.expires_at is not None and facts.expires_at <= now:
            raise BlobNotFound(blob_id)
        return facts

    def read(self, blob_id: str, *, now: float, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        facts = self.facts(blob_id, now=now)
        left = facts.size - start if length is None else length
        try:
            file = self._place(blob_id).open("rb")
        except FileNotFoundError as missing:
            raise BlobNotFound(blob_id) from missing
        return _pieces(file, start, left)

    def delete(self, blob_id: str) -> None:
        place = self._place(blob_id)
        place.with_suffix(".json").unlink(missing_ok=True)
        place.unlink(missing_ok=True)

    def prune(self, *, now: float) -> int:
        count = 0
        for file in self._folder.glob("*/*.json"):
            try:
                self.facts(file.stem, now=now)
            except BlobNotFound:
                self.delete(file.stem)
                count += 1
        return count

    def _place(self, blob_id: str) -> Path:
        """A file below the folder; ids that could lead elsewhere name no blob."""
        if not _ID.fullmatch(blob_id):
            raise BlobNotFound(blob_id)
        return self._folder / blob_id[:2] / blob_id


def _pieces(file: object, start: int, left: int) -> Iterator[bytes]:
    with file as opened:  # type: ignore[attr-defined]
        opened.seek(start)
        while left > 0 and (piece := opened.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
