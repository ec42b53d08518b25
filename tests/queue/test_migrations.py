"""A database of an earlier version keeps what is in it."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres import new_database

from hidream_edit.domain.job import JobState
from hidream_edit.queue.migrations import Migration, read_migrations
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.sqlite.store import SqliteStore

FIRST = 4  # the last schema in which inputs lay in the rows of jobs
JOB = (
    "INSERT INTO jobs (id, sequence, revision, caller, state, priority, turn, attempts_max, input, wants_previews, "
    "origin, queued_at, keep_seconds) VALUES ('a', 1, 1, 'c', 'queued', 0, 1, 3, '{\"n\": 1}', {false}, '', 1, 3600)"
)


def scripts(database: str) -> list[Migration]:
    return read_migrations(resources.files(f"hidream_edit.queue.{database}").joinpath("migrations"))


def old_sqlite(folder: Path) -> SqlStore:
    file = folder / "jobs.sqlite3"
    connection = sqlite3.connect(file)
    for number, script, _ in scripts("sqlite")[:FIRST]:
        connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute(JOB.replace("{false}", "0"))
    connection.commit()
    connection.close()
    return SqliteStore(file)


def old_postgres(_: Path) -> SqlStore:
    url = new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE schema_versions (version INTEGER PRIMARY KEY)")
        for number, script, _ in scripts("postgres")[:FIRST]:
            connection.execute(script)  # type: ignore[arg-type]
            connection.execute("INSERT INTO schema_versions VALUES (%s)", (number,))
        connection.execute(JOB.replace("{false}", "false"))  # type: ignore[arg-type]
    return PostgresStore(url)


@pytest.mark.parametrize("make", [old_sqlite, old_postgres])
def test_a_job_that_waits_is_worked_on_after_the_update(make: object, tmp_path: Path) -> None:
    store = make(tmp_path)  # type: ignore[operator]
    assert store.schema() == scripts("sqlite")[-1][0]
    job = store.claim(runner_id="r", now=2, lease_seconds=9)
    assert (job.id, job.input) == ("a", {"n": 1})
    assert store.complete("a", job.lease_token, {"images": []}, now=3).state is JobState.COMPLETED
    store.close()


def test_both_databases_have_the_same_steps_with_the_same_promises() -> None:
    both = [[(number, oldest) for number, _, oldest in scripts(database)] for database in ("sqlite", "postgres")]
    assert both[0] == both[1]
