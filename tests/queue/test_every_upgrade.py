"""From every schema that there ever was to the newest one, with rows in every table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.queue.test_migrations import scripts
from tests.support.postgres import new_database

from hidream_edit.domain.job import JobState
from hidream_edit.queue.postgres.store import PostgresStore
from hidream_edit.queue.sql_keys import SqlKeys
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.queue.sqlite.store import SqliteStore

NEWEST = scripts("sqlite")[-1].number
INPUTS = 5  # the first schema in which inputs lie in a table of their own
JOB_COLUMNS = "id, sequence, revision, caller, state, priority, turn, attempts_max, wants_previews, origin, queued_at"
INPUT = '{"n": 1}'
WAITING = "'waits', 1, 1, 'c', 'queued', 0, 1, 3, NO, '', 1, 3600, NULL, NULL"
ENDED = "'ended', 2, 2, 'c', 'completed', 0, 2, 3, YES, 'http://x', 1, 3600, 9, '{\"images\": []}'"
# The schema with which a row could first be there, and the row.
ROWS = [
    (1, "INSERT INTO events VALUES ('ended', 1, 5, 'INFO', 'step 1 of 3', '{\"step\": 1}')"),
    (2, "INSERT INTO keys (id, name, secret_hash, created_at) VALUES ('k', 'phone', 'hash', 7)"),
    (3, "INSERT INTO runners (id, state, engine, seen_at, defaults) VALUES ('r', 'ready', 'mini', 8, '{}')"),
    (4, "INSERT INTO deliveries VALUES ('ended', 'http://y', 'delivered', 2, NULL)"),
    (4, "INSERT INTO delivery_attempts VALUES ('ended', 2, 9, 0.5, 200, NULL)"),
    (8, "INSERT INTO buckets VALUES ('c', 2.5, 6)"),
    (8, "INSERT INTO key_actions (key_id, at, action) VALUES ('k', 7, 'created')"),
    (10, "INSERT INTO blobs VALUES ('b', 'c', 'image/png', 12, 1, NULL, 'x.png', 'hide')"),
    (11, "INSERT INTO measures VALUES ('ended', 'completed', '', 4, 4)"),
]
Tables = dict[str, list[dict[str, Any]]]


def rows_of(schema: int, *, no: str, yes: str) -> list[str]:
    """What a program of that time could have written."""
    columns = f"INSERT INTO jobs ({JOB_COLUMNS}, keep_seconds, finished_at, output"
    if schema < INPUTS:
        jobs = [f"{columns}, input) VALUES ({values}, '{INPUT}')" for values in (WAITING, ENDED)]
    else:
        jobs = [f"{columns}) VALUES ({values})" for values in (WAITING, ENDED)]
        jobs += [f"INSERT INTO inputs VALUES ('{name}', '{INPUT}')" for name in ("waits", "ended")]  # noqa: S608
    rows = [*jobs, *(row for since, row in ROWS if since <= schema)]
    return [row.replace("NO,", f"{no},").replace("YES,", f"{yes},") for row in rows]


class OnSqlite:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "jobs.sqlite3"

    def make(self, schema: int) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            for number, script, _ in scripts("sqlite")[:schema]:
                connection.executescript(script)
                connection.execute(f"PRAGMA user_version = {number}")
            for row in rows_of(schema, no="0", yes="1"):
                connection.execute(row)
            connection.commit()

    def tables(self) -> Tables:
        with closing(sqlite3.connect(self._file)) as connection:
            connection.row_factory = sqlite3.Row
            listed = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            names = [name for (name,) in listed if not name.startswith("sqlite_")]
            return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names}  # noqa: S608

    def open(self) -> SqlStore:
        return SqliteStore(self._file)


class OnPostgres:
    def __init__(self, _: Path) -> None:
        self._url = new_database()

    def make(self, schema: int) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute("CREATE TABLE schema_versions (version INTEGER PRIMARY KEY)")
            for number, script, _ in scripts("postgres")[:schema]:
                connection.execute(script)  # type: ignore[arg-type]
                connection.execute("INSERT INTO schema_versions VALUES (%s)", (number,))
            for row in rows_of(schema, no="false", yes="true"):
                connection.execute(row)  # type: ignore[arg-type]

    def tables(self) -> Tables:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            listed = connection.execute(
                "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            names = [row["name"] for row in listed if row["name"] != "schema_versions"]
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}  # type: ignore[arg-type]  # noqa: S608

    def open(self) -> SqlStore:
        return PostgresStore(self._url)


@pytest.mark.parametrize("schema", range(1, NEWEST + 1))
@pytest.mark.parametrize("database", [OnSqlite, OnPostgres])
def test_it_comes_to_the_newest_schema_and_keeps_every_row(
    database: Callable[[Path], OnSqlite | OnPostgres], schema: int, tmp_path: Path
) -> None:
    old = database(tmp_path)
    old.make(schema)
    before = old.tables()
    assert [name for name, rows in before.items() if not rows] == []  # a new table wants a row above
    store = old.open()
    assert store.schema() == NEWEST
    after = old.tables()
    for name, rows in before.items():
        assert len(after[name]) == len(rows), name
        for row in rows:
            kept = {column: value for column, value in row.items() if (name, column) != ("jobs", "input")}
            assert any(kept.items() <= new.items() for new in after[name]), (name, row)
    assert {row["job_id"]: row["input"] for row in after["inputs"]} == {"waits": INPUT, "ended": INPUT}
    store.close()


@pytest.mark.parametrize("schema", range(1, NEWEST + 1))
@pytest.mark.parametrize("database", [OnSqlite, OnPostgres])
def test_the_program_goes_on_with_what_is_there(
    database: Callable[[Path], OnSqlite | OnPostgres], schema: int, tmp_path: Path
) -> None:
    old = database(tmp_path)
    old.make(schema)
    store = old.open()
    ended = store.get("ended")
    assert (ended.state, ended.output, ended.wants_previews) == (JobState.COMPLETED, {"images": []}, True)
    assert [event.message for event in store.events("ended")] == ["step 1 of 3"]
    assert [key.name for key in SqlKeys(store).all()] == (["phone"] if schema >= 2 else [])
    job = store.claim(runner_id="r", now=2, lease_seconds=9)
    assert job is not None
    assert (job.id, job.input) == ("waits", {"n": 1})
    assert store.complete("waits", str(job.lease_token), {}, now=3).state is JobState.COMPLETED
    store.close()
