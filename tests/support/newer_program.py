"""What a program of tomorrow could make of a database: a column more in every table, and a table that is new."""

from __future__ import annotations

from pathlib import Path

from hidream_edit.queue.migrations import Migration
from hidream_edit.queue.postgres import store as postgres
from hidream_edit.queue.sqlite import store as sqlite

TODAY = sqlite.MIGRATIONS[-1].number
TABLES = (
    "jobs", "clock", "events", "inputs", "deliveries", "delivery_attempts", "runners", "buckets", "measures", "keys",
    "key_actions", "blobs", "sweeps", "compatibility",
)  # fmt: skip
ADDED = "".join(f"ALTER TABLE {table} ADD COLUMN tomorrow TEXT NOT NULL DEFAULT 'new';\n" for table in TABLES)
ADDED += "CREATE TABLE inventions (id TEXT PRIMARY KEY);\nCREATE INDEX jobs_tomorrow ON jobs (tomorrow);\n"


def step(number: int = TODAY + 1, *, oldest: int = TODAY, script: str = ADDED) -> Migration:
    """A step that is not taken yet; programs of today go on after it, unless ``oldest`` says otherwise."""
    return Migration(number, script, oldest)


def on_sqlite(file: Path, *steps: Migration) -> sqlite.SqliteStore:
    """The newer program, at work on ``file``."""
    return sqlite.SqliteStore(file, synchronous="normal", migrations=[*sqlite.MIGRATIONS, *(steps or [step()])])


def on_postgres(url: str, *steps: Migration) -> postgres.PostgresStore:
    """The newer program, at work on a database."""
    return postgres.PostgresStore(url, migrations=[*postgres.MIGRATIONS, *(steps or [step()])])
