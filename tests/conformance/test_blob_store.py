"""What every blob store must do: over a folder and over S3, with its facts in SQLite and in PostgreSQL."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.postgres import new_database
from tests.support.s3 import s3_server

from hidream_edit.blobs.folder import FolderObjects
from hidream_edit.blobs.s3 import S3Objects
from hidream_edit.blobs.store import SWEEP_AGE_SECONDS, SWEEP_SECONDS, Blobs
from hidream_edit.domain.blobs import Access, BlobFacts, Objects
from hidream_edit.domain.errors import BlobNotFound, BlobsUnavailable, StorageQuotaReached
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sql_blobs import SqlBlobRows
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.sqlite.store import SqliteStore

OBJECTS: dict[str, Callable[[Path], Objects]] = {
    "folder": lambda folder: FolderObjects(folder / "blobs"),
    "s3": lambda _: S3Objects(s3_server().new_bucket()),
}
ROWS: dict[str, Callable[[Path], SqlStore]] = {
    "sqlite": lambda folder: SqliteStore(folder / "jobs.sqlite3", synchronous="normal"),
    "postgres": lambda _: PostgresStore(new_database()),
}
MEGABYTE = 1_000_000


class Bench:
    """A blob store and what it is made of."""

    def __init__(self, objects: Objects, store: SqlStore) -> None:
        self.objects, self.rows, self._store = objects, SqlBlobRows(store), store
        self.blobs = Blobs(self.objects, self.rows)

    def names(self) -> list[str]:
        return [name for group in self.objects.names(until=time.time() + 60) for name in group]

    def close(self) -> None:
        self._store.close()


@pytest.fixture(params=itertools.product(OBJECTS, ROWS), ids="-".join)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    objects, rows = request.param
    made = Bench(OBJECTS[objects](tmp_path), ROWS[rows](tmp_path))
    yield made
    made.close()


@pytest.fixture
def blobs(bench: Bench) -> Blobs:
    return bench.blobs


def test_bytes_come_back_with_their_facts(blobs: Blobs) -> None:
    facts = blobs.put(
        iter([b"ab", b"cd"]), "image/png", now=5.0, keep_seconds=9e9, file_name="ä.png", caller="c", access=Access.HIDE
    )
    assert facts == BlobFacts(facts.id, "image/png", 4, 5.0, 5.0 + 9e9, "ä.png", "c", Access.HIDE)
    assert blobs.facts(facts.id, now=6) == facts
    assert b"".join(blobs.read(facts.id, now=6)) == b"abcd"


@pytest.mark.parametrize(
    ("start", "length", "part"), [(1, None, b"bcd"), (1, 2, b"bc"), (4, None, b""), (0, 99, b"abcd"), (3, 0, b"")]
)
def test_a_part_can_be_read(blobs: Blobs, start: int, length: int | None, part: bytes) -> None:
    facts = blobs.put(iter([b"abcd"]), "x/y", now=0)
    assert b"".join(blobs.read(facts.id, now=0, start=start, length=length)) == part


def test_a_large_file_goes_up_in_pieces_and_comes_back_in_pieces(blobs: Blobs) -> None:
    facts = blobs.put((bytes([n]) * MEGABYTE for n in range(13)), "x/y", now=0)
    assert facts.size == 13 * MEGABYTE
    pieces = list(blobs.read(facts.id, now=0, start=MEGABYTE // 2))
    assert max(map(len, pieces)) <= 4 * MEGABYTE
    assert b"".join(pieces) == bytes(MEGABYTE // 2) + b"".join(bytes([n]) * MEGABYTE for n in range(1, 13))


def test_an_empty_file_is_a_file(blobs: Blobs) -> None:
    facts = blobs.put(iter(()), "x/y", now=0)
    assert (facts.size, b"".join(blobs.read(facts.id, now=0))) == (0, b"")


def test_ids_cannot_be_guessed_and_never_repeat(blobs: Blobs) -> None:
    ids = {blobs.put(iter([b""]), "x/y", now=0).id for _ in range(50)}
    assert len(ids) == 50
    assert min(map(len, ids)) >= 32


@pytest.mark.parametrize("blob_id", ["gone-gone-gone-gone", "../../etc/passwd", "", "a/b", "..", "x" * 500, "ü" * 20])
def test_an_unknown_or_hostile_id_is_not_found(blobs: Blobs, blob_id: str) -> None:
    with pytest.raises(BlobNotFound):
        blobs.facts(blob_id, now=0)
    with pytest.raises(BlobNotFound):
        blobs.read(blob_id, now=0)


def test_a_blob_is_gone_when_its_time_is_over(bench: Bench) -> None:
    short = bench.blobs.put(iter([b"x"]), "x/y", now=0, keep_seconds=10)
    kept = bench.blobs.put(iter([b"x"]), "x/y", now=0)
    bench.blobs.facts(short.id, now=9)
    with pytest.raises(BlobNotFound):
        bench.blobs.facts(short.id, now=10)
    assert bench.blobs.prune(now=10) == 1
    assert bench.names() == [kept.id]
    assert bench.blobs.facts(kept.id, now=10) == kept


@pytest.mark.parametrize("size", [10, 12 * MEGABYTE], ids=["small", "large"])
def test_a_write_that_breaks_off_leaves_nothing(bench: Bench, size: int) -> None:
    def broken() -> Iterator[bytes]:
        for _ in range(10):
            yield bytes(size // 10)
        raise ConnectionError("the caller is gone")

    with pytest.raises(ConnectionError, match="the caller is gone"):
        bench.blobs.put(broken(), "x/y", now=0)
    assert bench.names() == []


def test_a_blob_can_be_deleted_twice(blobs: Blobs) -> None:
    facts = blobs.put(iter([b"x"]), "x/y", now=0)
    blobs.delete(facts.id)
    blobs.delete(facts.id)
    with pytest.raises(BlobNotFound):
        blobs.facts(facts.id, now=0)


def test_an_upload_that_is_repeated_is_stored_once(bench: Bench) -> None:
    for data in (b"first", b"again"):
        bench.blobs.put(iter([data]), "x/y", now=0, blob_id="p" * 32, caller="c")
    assert b"".join(bench.blobs.read("p" * 32, now=0)) == b"again"
    assert bench.rows.bytes_of("c", now=0) == 5
    assert bench.names() == ["p" * 32]


def test_a_caller_may_store_so_much_and_others_do_not_count(bench: Bench) -> None:
    def put(size: int, *, caller: str = "c", now: float = 0.0) -> None:
        bench.blobs.put(iter([bytes(size)]), "x/y", now=now, keep_seconds=10, caller=caller, bytes_max=100)

    put(60)
    put(100, caller="d")
    with pytest.raises(StorageQuotaReached):
        put(41)
    put(40)
    assert len(bench.names()) == 3
    put(100, now=10)  # what is over does not count


def test_uploads_at_the_same_time_stay_under_the_quota_together(bench: Bench) -> None:
    outcomes: list[bool] = []

    def put() -> None:
        try:
            bench.blobs.put(iter([bytes(30)]), "x/y", now=0, caller="c", bytes_max=100)
            outcomes.append(True)
        except StorageQuotaReached:
            outcomes.append(False)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcomes) == len(bench.names()) == 3
    assert bench.rows.bytes_of("c", now=0) == 90


class Crash(Exception):
    """Stands for a power cut."""


def test_a_crash_between_bytes_and_row_leaves_bytes_that_the_sweep_finds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise Crash

    kept = bench.blobs.put(iter([b"x"]), "x/y", now=0)
    with monkeypatch.context() as patched:
        patched.setattr(bench.rows, "add", crash)
        with pytest.raises(Crash):
            bench.blobs.put(iter([b"x"]), "x/y", now=0)
    assert len(bench.names()) == 2
    young, old = time.time() + 60, time.time() + SWEEP_AGE_SECONDS + SWEEP_SECONDS + 60
    assert bench.blobs.prune(now=young) == 0  # it may be an upload under way
    assert bench.blobs.prune(now=old) == 1
    assert bench.names() == [kept.id]


def test_a_crash_while_pruning_never_leaves_a_row_without_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        bench.blobs.put(iter([b"x"]), "x/y", now=0, keep_seconds=1)
    kept = bench.blobs.put(iter([b"x"]), "x/y", now=0)
    deleted: list[str] = []

    def crash(name: str) -> None:
        deleted.append(name)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(bench.objects, "delete", crash)
        with pytest.raises(Crash):
            bench.blobs.prune(now=2)
    assert len(bench.names()) == 4
    for name in bench.names():
        row = bench.rows.find(name)
        assert (row is not None) == (name == kept.id)
    assert bench.blobs.prune(now=time.time() + SWEEP_AGE_SECONDS + 60) == 3
    assert bench.names() == [kept.id]


def test_one_of_many_processes_sweeps(bench: Bench) -> None:
    assert bench.rows.begin_sweep(now=1e6, every_seconds=100)
    assert not bench.rows.begin_sweep(now=1e6 + 99, every_seconds=100)
    assert bench.rows.begin_sweep(now=1e6 + 100, every_seconds=100)


def test_thousands_of_blobs_are_swept_in_groups(tmp_path: Path) -> None:
    bench = Bench(FolderObjects(tmp_path / "blobs"), SqliteStore(tmp_path / "jobs.sqlite3", synchronous="normal"))
    for number in range(1200):
        folder = tmp_path / "blobs" / "a"
        folder.mkdir(exist_ok=True)
        (folder / f"a{number:031d}").write_bytes(b"")
    kept = bench.blobs.put(iter([b"x"]), "x/y", now=0)
    assert bench.blobs.prune(now=time.time() + SWEEP_AGE_SECONDS + 60) == 1200
    assert bench.names() == [kept.id]
    bench.close()


def test_a_bucket_that_is_away_is_told_in_seconds_and_without_secrets() -> None:
    bucket = replace(s3_server().new_bucket(), endpoint="http://127.0.0.1:9")
    began = time.monotonic()
    for call in (
        lambda: S3Objects(bucket).put("x" * 32, iter([b"x"]), "x/y"),
        lambda: S3Objects(bucket).put("x" * 32, (bytes(MEGABYTE) for _ in range(9)), "x/y"),
        lambda: S3Objects(bucket).read("x" * 32, start=0, length=1),
        lambda: S3Objects(bucket).delete("x" * 32),
        lambda: list(S3Objects(bucket).names(until=0)),
    ):
        with pytest.raises(BlobsUnavailable, match="right now") as told:
            call()
        assert "its-secret" not in str(told.value)
    assert time.monotonic() - began < 60


def test_a_bucket_that_does_not_exist_is_named() -> None:
    nowhere = replace(s3_server().new_bucket(), name="no-such-bucket")
    with pytest.raises(BlobsUnavailable, match=r"s3://no-such-bucket .*NoSuchBucket"):
        S3Objects(nowhere).put("x" * 32, iter([b"x"]), "x/y")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    objects = FolderObjects(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BlobsUnavailable, match="No space left"):
        objects.put("x" * 32, iter([b"x"]), "x/y")
    monkeypatch.undo()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_the_bytes_of_all_callers_are_counted_until_they_are_pruned(blobs: Blobs) -> None:
    assert blobs.bytes_stored() == 0
    blobs.put(iter([b"ab"]), "image/png", now=5, keep_seconds=10, caller="a")
    blobs.put(iter([b"cde"]), "image/png", now=5, caller="b")
    assert blobs.bytes_stored() == 5
    blobs.prune(now=100)
    assert blobs.bytes_stored() == 3


def test_a_folder_that_cannot_be_read_is_told_apart_from_a_file_that_is_not_there(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "blobs")
    with pytest.raises(BlobNotFound):
        objects.read("abc", start=0, length=1)
    (tmp_path / "blobs" / "a").write_text("a file in the place of a folder")
    with pytest.raises(BlobsUnavailable, match="cannot be read: Not a directory"):
        objects.read("abc", start=0, length=1)
    with pytest.raises(BlobsUnavailable, match="cannot be written"):
        objects.put("abc", iter([b"x"]), "text/plain")
