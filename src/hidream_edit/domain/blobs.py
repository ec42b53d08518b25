"""Blobs: files of callers and results. Their bytes lie in an object store, what is known of them in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Access(StrEnum):
    """Who may read a blob, in the words of the hosted service's lifecycle header."""

    ALLOW = "allow"  # whoever knows its address
    FORBID = "forbid"  # its owner and whoever has a signed address; others are refused
    HIDE = "hide"  # the same; for others it does not exist


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What is known of a blob beside its bytes."""

    id: str
    content_type: str
    size: int  # bytes
    created_at: float  # Unix seconds
    expires_at: float | None
    file_name: str = ""
    caller: str = ""
    access: Access = Access.ALLOW


class BlobStore(Protocol):
    """Immutable bytes by id. An id is a secret of its own: it cannot be guessed."""

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
        """Store bytes; they are whole or not there.

        Args:
            bytes_max: how much the caller may have stored altogether.

        Raises:
            StorageQuotaReached: that would be more than ``bytes_max``.
            BlobsUnavailable: they cannot be written right now.
        """

    def facts(self, blob_id: str, *, now: float) -> BlobFacts:
        """Raises BlobNotFound."""

    def read(self, blob_id: str, *, now: float, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes from ``start``.

        Raises:
            BlobNotFound: there is none, or its time is over.
            BlobsUnavailable: it cannot be read right now.
        """

    def delete(self, blob_id: str) -> None:
        """Delete it; no error where there is none."""

    def bytes_stored(self) -> int:
        """Of all callers; those whose time is over count until they are pruned."""

    def prune(self, *, now: float) -> int:
        """Delete blobs whose time is over, and what a crash left behind; returns how many."""


class Objects(Protocol):
    """Bytes under names, whole or not there: a folder, a bucket."""

    def put(self, name: str, pieces: Iterator[bytes], content_type: str) -> int:
        """Store them in place of what was there; returns how many bytes. Raises BlobsUnavailable."""

    def read(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        """Raises BlobNotFound, BlobsUnavailable."""

    def delete(self, name: str) -> None:
        """No error where there is none. Raises BlobsUnavailable."""

    def names(self, *, until: float) -> Iterator[Sequence[str]]:
        """Names of all that was stored before ``until``, in groups; also of writes that broke off."""


class BlobRows(Protocol):
    """What is known of blobs, in the database."""

    def add(self, facts: BlobFacts, *, bytes_max: int | None) -> None:
        """From now on the blob exists. Raises StorageQuotaReached."""

    def find(self, blob_id: str) -> BlobFacts | None:
        """What is known of it, also when its time is over."""

    def remove(self, blob_id: str) -> None:
        """From now on it does not exist."""

    def bytes_of(self, caller: str, *, now: float) -> int:
        """What a caller has stored."""

    def bytes_in_all(self) -> int:
        """What all callers have stored."""

    def take_expired(self, *, now: float, limit: int) -> Sequence[str]:
        """Remove blobs whose time is over; returns their ids."""

    def unknown(self, blob_ids: Sequence[str]) -> Sequence[str]:
        """Those of the ids that no row has."""

    def begin_sweep(self, *, now: float, every_seconds: float) -> bool:
        """Whether it is time to look for bytes without a row, and this process is the one to do it."""
