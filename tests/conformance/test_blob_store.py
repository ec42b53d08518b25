"""What every blob store must do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hidream_edit.blobs.disk import DiskBlobs
from hidream_edit.domain.errors import BlobNotFound
from hidream_edit.domain.interfaces import BlobStore


@pytest.fixture(params=["disk"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return {"disk": lambda: DiskBlobs(tmp_path / "blobs")}[request.param]()


def test_bytes_come_back_with_their_facts(blobs: BlobStore) -> None:
    facts = blobs.put(iter([b"ab", b"cd"]), "image/png", now=5.0, file_name="ä.png")
    assert (facts.content_type, facts.size, facts.created_at, facts.expires_at) == ("image/png", 4, 5.0, None)
    assert blobs.facts(facts.id, now=9e9) == facts
    assert b"".join(blobs.read(facts.id, now=6)) == b"abcd"


@pytest.mark.parametrize(
    ("start", "length", "part"), [(1, None, b"bcd"), (1, 2, b"bc"), (4, None, b""), (0, 99, b"abcd")]
)
def test_a_part_can_be_read(blobs: BlobStore, start: int, length: int | None, part: bytes) -> None:
    facts = blobs.put(iter([b"abcd"]), "x/y", now=0)
    assert b"".join(blobs.read(facts.id, now=0, start=start, length=length)) == part


def test_ids_cannot_be_guessed_and_never_repeat(blobs: BlobStore) -> None:
    ids = {blobs.put(iter([b""]), "x/y", now=0).id for _ in range(50)}
    assert len(ids) == 50
    assert min(map(len, ids)) >= 32


@pytest.mark.parametrize("blob_id", ["gone-gone-gone-gone", "../../etc/passwd", "", "a/b", "..", "x" * 500, "ü" * 20])
def test_an_unknown_or_hostile_id_is_not_found(blobs: BlobStore, blob_id: str) -> None:
    with pytest.raises(BlobNotFound):
        blobs.facts(blob_id, now=0)
    with pytest.raises(BlobNotFound):
        blobs.read(blob_id, now=0)


def test_a_blob_is_gone_when_its_time_is_over(blobs: BlobStore) -> None:
    short = blobs.put(iter([b"x"]), "x/y", now=0, keep_seconds=10)
    kept = blobs.put(iter([b"x"]), "x/y", now=0)
    blobs.facts(short.id, now=9)
    with pytest.raises(BlobNotFound):
        blobs.facts(short.id, now=10)
    assert blobs.prune(now=10) == 1
    blobs.facts(kept.id, now=10)


def test_a_write_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.put(broken(), "x/y", now=0)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_blob_can_be_deleted_twice(blobs: BlobStore) -> None:
    facts = blobs.put(iter([b"x"]), "x/y", now=0)
    blobs.delete(facts.id)
    blobs.delete(facts.id)
    with pytest.raises(BlobNotFound):
        blobs.facts(facts.id, now=0)
