"""Objects in a bucket of S3 or whatever speaks its protocol."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from hidream_edit.domain.errors import BlobNotFound, BlobsUnavailable

T = TypeVar("T")
_CODE = re.compile(r"<Code>(\w+)</Code>")  # how S3 names what is wrong
GROUP = 1000
PIECE_BYTES = 1024 * 1024
AT_ONCE_BYTES = 5 * 1024 * 1024  # up to here one request is cheaper than an upload in parts
# Somebody waits for the answer: better a quick "try again" than minutes of trying.
RETRIES_MAX, RETRY_SECONDS, CONNECT_SECONDS, REQUEST_SECONDS = 2, 8, "3s", "60s"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where it is and how to get in. What is None is taken from the environment as every AWS tool does."""

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None


class S3Objects:
    """See `Objects`. Large files go up in parts; S3 shows none of them before the last one is there."""

    def __init__(self, bucket: Bucket) -> None:
        given: dict[str, Any] = {
            "endpoint": bucket.endpoint,
            "region": bucket.region,
            "access_key_id": bucket.access_key_id,
            "secret_access_key": bucket.secret_access_key,
            "prefix": bucket.prefix or None,
        }
        self._shown = f"s3://{bucket.name}"
        self._store = S3Store(
            bucket.name,
            **{name: value for name, value in given.items() if value is not None},
            client_options={"connect_timeout": CONNECT_SECONDS, "timeout": REQUEST_SECONDS, "allow_http": True},
            retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )

    def put(self, name: str, pieces: Iterator[bytes], content_type: str) -> int:
        counted = _Counted(pieces)
        try:
            head = _up_to(AT_ONCE_BYTES, counted)
            whole = b"".join(head) if counted.is_done else itertools.chain(head, counted)
            obstore.put(self._store, name, whole, attributes={"Content-Type": content_type})
        except Exception as problem:
            if counted.broken is not None:
                raise counted.broken from None
            if isinstance(problem, (BaseError, OSError)):
                raise self._unavailable(problem) from problem
            raise
        return counted.size

    def read(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        return self._tried(name, lambda: self._read(name, start, length))

    def _read(self, name: str, start: int, length: int) -> Iterator[bytes]:
        found = obstore.get(self._store, name, options={"range": (start, start + length)})
        stream = iter(found.stream(min_chunk_size=PIECE_BYTES))
        first = next(stream, b"")  # whatever can fail fails here, before anybody was promised bytes
        return (bytes(piece) for piece in itertools.chain((first,), stream))

    def delete(self, name: str) -> None:
        self._tried(name, lambda: obstore.delete(self._store, name))

    def names(self, *, until: float) -> Iterator[Sequence[str]]:
        listing = obstore.list(self._store, chunk_size=GROUP)
        while found := self._tried("", lambda: next(iter(listing), None)):
            yield [one["path"] for one in found if one["last_modified"].timestamp() < until]

    def _tried(self, name: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except (NotFoundError, FileNotFoundError) as missing:
            raise BlobNotFound(name) from missing
        except (BaseError, OSError) as problem:
            raise self._unavailable(problem) from problem

    def _unavailable(self, problem: Exception) -> BlobsUnavailable:
        told = _CODE.search(str(problem))
        reason = told[1] if told else str(problem).strip().partition("\n")[0][:200]
        return BlobsUnavailable(f"{self._shown} does not take or give files right now: {reason}")


def _up_to(bytes_max: int, pieces: Iterator[bytes]) -> list[bytes]:
    """What comes first, until it is more than ``bytes_max``."""
    head, size = [], 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > bytes_max:
            break
    return head


class _Counted:
    """An iterator that knows how much it gave, and which error was its own."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.size = 0
        self.is_done = False
        self.broken: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self.is_done = True
            raise
        except BaseException as broken:
            self.broken = broken
            raise
        self.size += len(piece)
        return piece
