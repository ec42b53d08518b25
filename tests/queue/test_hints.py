"""Hints between processes of one machine, where there is no place for them."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from pathlib import Path

from hidream_edit.domain.job import NewJob
from hidream_edit.queue.sqlite.hints import SocketHints
from hidream_edit.queue.sqlite.store import SqliteStore

LONGER_THAN_AN_ADDRESS_MAY_BE = "d" * 120


def test_in_a_folder_with_a_long_path_changes_are_still_seen(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / LONGER_THAN_AN_ADDRESS_MAY_BE / "jobs.sqlite3")) as store:
        before = store.revision()
        writer = threading.Timer(0.05, lambda: store.submit(NewJob(id="a", caller="c", input={}), now=1))
        writer.start()
        assert store.wait(before, seconds_max=30) > before
        writer.join()


def test_a_folder_that_cannot_be_made_costs_the_hints_only(tmp_path: Path) -> None:
    (tmp_path / "hints").write_text("a file in its place")
    with closing(SocketHints(tmp_path / "hints" / "inside")) as hints:
        hints.give()
        hints.pause(0.001)


def test_a_folder_that_somebody_removed_costs_the_hints_only(tmp_path: Path) -> None:
    with closing(SocketHints(tmp_path / "hints")) as hints:
        hints.pause(0.001)
        shutil.rmtree(tmp_path / "hints")
        hints.give()
