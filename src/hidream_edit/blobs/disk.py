"""Blobs in a folder, one file each: a line of facts, then the bytes."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hidream_edit.domain.errors import BlobNotFound
from hidream_edit.domain.interfaces import BlobFacts

PIECE_BYTES = 256 * 1024
PART, PART_KEEP_SECONDS = ".part", 24 * 3600.0
_ID = re.compile(r"[A-Za-z0-9_-]{16,80}")


class DiskBlobs:
    """See `BlobStore`. A blob is on the disk before anybody hears of it, and whole or not there."""

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
        expires_at = None if keep_seconds is None else now + keep_seconds
        header = json.dumps(
            {"content_type": content_type, "created_at": now, "expires_at": expires_at, "file_name": file_name}
        )
        part, size = place.with_suffix(f".{secrets.token_hex(4)}{PART}"), 0
        try:
            with _created(part) as file:
                file.write(header.encode() + b"\n")
                for piece in pieces:
                    size += len(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync_folder(place.parent)
        return BlobFacts(name, content_type, size, now, expires_at, file_name)

    def facts(self, blob_id: str, *, now: float) -> BlobFacts:
        with self._opened(blob_id) as file:
            return _read_facts(file, blob_id, now=now)

    def read(self, blob_id: str, *, now: float, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        file = self._opened(blob_id)
        try:
            facts = _read_facts(file, blob_id, now=now)
            file.seek(start, os.SEEK_CUR)
        except BaseException:
            file.close()
            raise
        return _pieces(file, facts.size - start if length is None else length)

    def delete(self, blob_id: str) -> None:
        self._place(blob_id).unlink(missing_ok=True)

    def prune(self, *, now: float) -> int:
        count = 0
        for file in self._folder.glob("*/*"):
            if file.suffix == PART:
                if now - file.stat().st_mtime > PART_KEEP_SECONDS:  # whoever wrote it was killed
                    file.unlink(missing_ok=True)
                continue
            try:
                self.facts(file.name, now=now)
            except BlobNotFound:
                file.unlink(missing_ok=True)
                count += 1
        return count

    def _opened(self, blob_id: str) -> BinaryIO:
        try:
            return self._place(blob_id).open("rb")
        except FileNotFoundError as missing:
            raise BlobNotFound(blob_id) from missing

    def _place(self, blob_id: str) -> Path:
        """A file below the folder; ids that could lead elsewhere name no blob."""
        if not _ID.fullmatch(blob_id):
            raise BlobNotFound(blob_id)
        return self._folder / blob_id[:1] / blob_id  # 64 folders


def _created(file: Path) -> BinaryIO:
    try:
        return file.open("xb")
    except FileNotFoundError:
        file.parent.mkdir(exist_ok=True)
        return file.open("xb")


def _sync_folder(folder: Path) -> None:
    """A file that was renamed into a folder outlives a power cut only when the folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_facts(file: BinaryIO, blob_id: str, *, now: float) -> BlobFacts:
    """Facts from the start of a file, which is then left at the first of its bytes."""
    stored = json.loads(file.readline())
    facts = BlobFacts(blob_id, size=os.fstat(file.fileno()).st_size - file.tell(), **stored)
    if facts.expires_at is not None and facts.expires_at <= now:
        raise BlobNotFound(blob_id)
    return facts


def _pieces(file: BinaryIO, left: int) -> Iterator[bytes]:
    with file:
        while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
