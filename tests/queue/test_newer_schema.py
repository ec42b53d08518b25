"""An old program on a schema that a newer one has made. Every call of a job store is also made there by the suite in
tests/conformance/job_store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.support import newer_program
from tests.support.newer_program import TODAY, step
from tests.support.postgres import new_database

from hidream_edit.domain.blobs import Access, BlobFacts
from hidream_edit.domain.errors import StoreUnusable
from hidream_edit.domain.job import Job, JobState, NewJob
from hidream_edit.domain.keys import Key, Scope
from hidream_edit.domain.quotas import Quota
from hidream_edit.queue.migrations import Migration, compared, read_migrations
from hidream_edit.queue.postgres import store as postgres
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sql_blobs import SqlBlobRows
from hidream_edit.queue.sql_keys import SqlKeys
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.sqlite.store import SqliteStore

PREPARED = 5  # the driver prepares a statement when it is used for the fourth time


class Database:
    """One database, opened by programs of today and of tomorrow."""

    def __init__(self, today: Callable[[], SqlStore], newer: Callable[..., SqlStore]) -> None:
        self._today, self._newer = today, newer
        self._opened: list[SqlStore] = []

    def today(self) -> SqlStore:
        return self._kept(self._today())

    def newer(self, *steps: Migration) -> SqlStore:
        return self._kept(self._newer(*steps))

    def _kept(self, store: SqlStore) -> SqlStore:
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        file = tmp_path / "jobs.sqlite3"
        made = Database(lambda: SqliteStore(file), lambda *steps: newer_program.on_sqlite(file, *steps))
    else:
        url = new_database()
        made = Database(lambda: PostgresStore(url), lambda *steps: newer_program.on_postgres(url, *steps))
    with closing(made):
        yield made


def submit(store: SqlStore, name: str) -> Job:
    return store.submit(NewJob(id=name, caller="alice", input={"n": 1}, webhook_url="https://x"), now=1)


def claim(store: SqlStore) -> Job:
    job = store.claim(runner_id="r", now=2, lease_seconds=30)
    assert job is not None
    return job


def complete(store: SqlStore, job: Job) -> Job:
    return store.complete(job.id, str(job.lease_token), {"images": []}, now=3)


def test_a_program_goes_on_while_a_newer_one_brings_the_schema_up_to_date(database: Database) -> None:
    today = database.today()
    for number in range(PREPARED):
        submit(today, f"before {number}")
        complete(today, claim(today))
        assert len(today.changed_since(0)) == number + 1
    submit(today, "running")
    running = claim(today)
    newer = database.newer()
    assert newer.schema() == today.schema() == TODAY + 1
    assert complete(today, running).state is JobState.COMPLETED
    submit(today, "by the old")
    submit(newer, "by the new")
    assert complete(newer, claim(newer)).id == "by the old"
    assert complete(today, claim(today)).id == "by the new"
    assert [job.id for job in today.recent(2)] == ["by the new", "by the old"]
    assert today.claim_delivery(now=4, lease_seconds=9) is not None
    assert len(today.changed_since(0)) == PREPARED + 3


def test_keys_and_facts_of_files_are_written_and_read_there(database: Database) -> None:
    database.newer()
    today = database.today()
    key = Key("k", "phone", "hash", 1.0, None, Scope.USE, Quota())
    SqlKeys(today).add(key)
    assert SqlKeys(today).find("k") == key
    assert SqlKeys(today).revoke("k", now=2)
    facts = BlobFacts("b", "image/png", 3, 1.0, 9.0, "x.png", "k", Access.HIDE)
    rows = SqlBlobRows(today)
    rows.add(facts, bytes_max=10)
    assert rows.find("b") == facts
    assert rows.begin_sweep(now=100.0, every_seconds=5)
    assert rows.take_expired(now=10.0, limit=9) == ["b"]


def test_an_old_program_starts_there_says_so_and_changes_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.newer()
    with caplog.at_level(logging.INFO, "hidream_edit.queue.migrations"):
        assert database.today().schema() == TODAY + 1
    assert f"schema {TODAY + 1}, made by a newer program" in caplog.text


def test_a_step_that_says_nothing_of_older_programs_shuts_them_out(database: Database) -> None:
    database.newer(step(oldest=TODAY + 1)).close()
    with pytest.raises(StoreUnusable, match=f"wants a program that knows schema {TODAY + 1}, this one knows {TODAY}"):
        database.today()


def test_a_later_step_that_only_adds_does_not_let_them_in_again(database: Database) -> None:
    breaking = step(oldest=TODAY + 1)
    adding = step(TODAY + 2, oldest=TODAY, script="CREATE TABLE more (id TEXT PRIMARY KEY);")
    database.newer(breaking, adding).close()
    with pytest.raises(StoreUnusable, match=f"knows schema {TODAY + 1}"):
        database.today()
    assert database.newer(breaking).schema() == TODAY + 2


def test_a_step_names_the_oldest_schema_whose_programs_go_on_or_means_itself(tmp_path: Path) -> None:
    (tmp_path / "0015_colour.sql").write_text("-- What it is for.\n-- programs since: 14\nALTER TABLE jobs ADD c TEXT;")
    (tmp_path / "0016_gone.sql").write_text("ALTER TABLE jobs DROP COLUMN c;  -- programs since: 2, says a remark")
    assert [(one.number, one.oldest) for one in read_migrations(tmp_path)] == [(15, 14), (16, 16)]


@pytest.mark.parametrize(("oldest", "shuts_out"), [(TODAY, False), (TODAY + 1, True)])
def test_before_the_steps_it_is_known_whether_programs_of_today_can_go_on(oldest: int, shuts_out: bool) -> None:
    steps = [step(oldest=TODAY), step(TODAY + 2, oldest=oldest)]
    assert compared(steps, seen=TODAY, oldest=TODAY).shuts_out is shuts_out
    assert not compared(steps, seen=TODAY + 2, oldest=oldest).shuts_out


def test_a_table_that_somebody_holds_is_waited_for_only_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 0.2)
    url = new_database()
    PostgresStore(url).close()
    with psycopg.connect(url) as backup:
        backup.execute("SELECT count(*) FROM jobs")
        with pytest.raises(StoreUnusable, match="perhaps a backup"):
            newer_program.on_postgres(url)
    with closing(PostgresStore(url)) as today:
        assert today.schema() == TODAY
    with closing(newer_program.on_postgres(url)) as newer:
        assert newer.schema() == TODAY + 1


def test_the_steps_wait_for_a_writer_and_hold_no_table_that_it_still_needs() -> None:
    url = new_database()
    opened: list[PostgresStore] = []
    with closing(PostgresStore(url)) as today:
        bringing = threading.Thread(target=lambda: opened.append(newer_program.on_postgres(url)))
        with today.writing():
            today.execute("add_to_measures", observations='[["n", "", "+Inf", 1, 1.0]]')
            bringing.start()
            until_it_waits(url)
            assert today.fetch("job_by_id", id="nobody") == []  # the first table that the steps change
        bringing.join()
        assert [one.name for one in today.measures()] == ["n"]
    (newer,) = opened
    newer.close()


def until_it_waits(url: str) -> None:
    """Until somebody in the database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    until = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(waiting).fetchone() == (0,):
            assert time.monotonic() < until
            time.sleep(0.01)
