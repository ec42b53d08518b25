"""Where a source may come from: file, folder, standard input, data URI, web address."""

from __future__ import annotations

import base64
import binascii
import sys
import urllib.parse
from pathlib import Path

from hidream_edit.domain.errors import PictureTooLarge, PictureUnreadable
from hidream_edit.outgoing.addresses import EVERYWHERE
from hidream_edit.outgoing.client import Connect, connect
from hidream_edit.outgoing.download import DownloadLimits, download
from hidream_edit.pictures.decode import DEFAULT_LIMITS

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp", ".heic", ".heif"})
STANDARD_INPUT = "-"


def expand(sources: list[str]) -> list[str]:
    """Folders become the pictures in them, by name; everything else stays.

    Raises:
        PictureUnreadable: a folder without pictures.
    """
    found: list[str] = []
    for source in sources:
        if is_address(source) or not Path(source).is_dir():
            found.append(source)
            continue
        inside = sorted(str(file) for file in Path(source).iterdir() if file.suffix.lower() in SUFFIXES)
        if not inside:
            raise PictureUnreadable(f"there are no pictures in {source}")
        found += inside
    return found


def is_address(source: str) -> bool:
    """Whether ``source`` is a web address or a data URI."""
    return source.lower().startswith(("http://", "https://", "data:"))


def read(source: str, *, bytes_max: int = DEFAULT_LIMITS.bytes_max, connect_to: Connect = connect) -> bytes:
    """The bytes of a source.

    Raises:
        PictureUnreadable: no such file, or a data URI that is not one.
        PictureTooLarge: more than ``bytes_max``.
        FetchFailed: the address did not answer with a picture.
    """
    if source == STANDARD_INPUT:
        return _capped(sys.stdin.buffer.read(bytes_max + 1), bytes_max)
    if source.lower().startswith("data:"):
        return _capped(from_data_uri(source), bytes_max)
    if is_address(source):
        # Whoever types an address may reach whatever this machine reaches, and is told what went wrong.
        return download(
            source,
            limits=DownloadLimits(bytes_max, allowed=EVERYWHERE),
            explain=lambda problem: f"{_without_query(source)} {problem}",
            connect_to=connect_to,
        )
    try:
        with Path(source).open("rb") as file:
            return _capped(file.read(bytes_max + 1), bytes_max)
    except OSError as problem:
        raise PictureUnreadable(f"{source}: {problem.strerror or problem}") from problem


def from_data_uri(uri: str) -> bytes:
    """The bytes in ``data:…;base64,…`` or in its percent-encoded form.

    Raises:
        PictureUnreadable: malformed.
    """
    head, comma, body = uri.partition(",")
    if not comma:
        raise PictureUnreadable("the data URI has no comma before its data")
    if not head.lower().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(body)
    try:
        return base64.b64decode("".join(urllib.parse.unquote(body).split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise PictureUnreadable(f"the data URI is not valid base64: {problem}") from problem


def _capped(data: bytes, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise PictureTooLarge(
            f"the picture has more than the {bytes_max:,} bytes allowed",
            kind="file_too_large",
            context={"max_size": bytes_max},
        )
    return data


def _without_query(url: str) -> str:
    """An address fit for messages: query strings often hold keys."""
    return url.partition("?")[0]
