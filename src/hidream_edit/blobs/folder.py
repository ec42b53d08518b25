"""Objects in a folder, one file each."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from hidream_edit.domain.errors import BlobNotFound, BlobsUnavailable

PIECE_BYTES = 256 * 1024
PART = ".part"
GROUP = 500


class FolderObjects:
    """See `Objects`. Bytes are on the disk before anybody hears of them: written beside, synced, then renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, pieces: Iterator[bytes], content_type: str) -> int:  # noqa: ARG002 - a folder has no place for it
        place, size = self._place(name), 0
        part = place.with_name(f"{name}.{secrets.token_hex(4)}{PART}")
        try:
            with _created(part) as file:
                for piece in pieces:
                    size += len(piece)
                    _write(file, piece)
                _sync(file)
            part.replace(place)
            _sync_folder(place.parent)
        except BaseException as broken:
            with contextlib.suppress(OSError):  # it may be the disk that fails
                part.unlink(missing_ok=True)
            if isinstance(broken, _DiskError):
                raise BlobsUnavailable(f"the folder of files cannot be written: {broken}") from broken
            raise
        return size

    def read(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        try:
            file = self._place(name).open("rb")
        except FileNotFoundError as missing:
            raise BlobNotFound(name) from missing
        except OSError as problem:
            raise BlobsUnavailable(f"the folder of files cannot be read: {problem.strerror}") from problem
        file.seek(start)
        return _pieces(file, length)

    def delete(self, name: str) -> None:
        self._place(name).unlink(missing_ok=True)

    def names(self, *, until: float) -> Iterator[Sequence[str]]:
        group: list[str] = []
        for file in self._folder.glob("*/*"):
            try:
                if file.stat().st_mtime >= until:
                    continue
            except FileNotFoundError:  # deleted in the meantime
                continue
            group.append(file.name)
            if len(group) == GROUP:
                yield group
                group = []
        yield group

    def _place(self, name: str) -> Path:
        return self._folder / name[:1] / name  # up to 64 folders


class _DiskError(OSError):
    """Told apart from errors of whoever sends the bytes."""


def _write(file: BinaryIO, piece: bytes) -> None:
    try:
        file.write(piece)
    except OSError as problem:
        raise _DiskError(problem.errno, problem.strerror) from problem


def _sync(file: BinaryIO) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as problem:
        raise _DiskError(problem.errno, problem.strerror) from problem


def _created(file: Path) -> BinaryIO:
    try:
        file.parent.mkdir(exist_ok=True)
        return file.open("xb")
    except OSError as problem:
        raise _DiskError(problem.errno, problem.strerror) from problem


def _sync_folder(folder: Path) -> None:
    """A file that was renamed into a folder outlives a power cut only when the folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pieces(file: BinaryIO, left: int) -> Iterator[bytes]:
    with file:
        while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
