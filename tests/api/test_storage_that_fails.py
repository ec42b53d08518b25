"""A disk that is full, a database that somebody else holds."""

from __future__ import annotations

import sqlite3
import threading
import time

import httpx
import pytest
from tests.api.conftest import APP, Server, an_input

from hidream_edit.queue.sqlite.store import SqliteStore

REQUESTS = f"/queue{APP}/requests"


def test_on_a_full_disk_nothing_is_acknowledged_and_the_server_goes_on(
    idle_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = idle_server.submit()["request_id"]
    usual = SqliteStore.connection

    def full(store: SqliteStore) -> sqlite3.Connection:
        connection = usual(store)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(SqliteStore, "connection", full)
    refused = idle_server.client.post(f"/queue{APP}", json=an_input(edit_instruction="x" * 50_000))
    assert (refused.status_code, refused.headers["x-fal-needs-retry"]) == (503, "1")
    assert "not accepted" in refused.json()["detail"]
    monkeypatch.setattr(SqliteStore, "connection", lambda store: _roomy(usual(store)))
    after = idle_server.submit()["request_id"]
    assert [one.id for one in idle_server.store.line()] == [before, after]


def test_a_database_that_another_process_holds_is_waited_for(idle_server: Server) -> None:
    other = sqlite3.connect(idle_server.store_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers: list[httpx.Response] = []
    client = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{idle_server.url}/queue{APP}", json=an_input(), timeout=20))
    )
    client.start()
    time.sleep(0.3)
    assert answers == []
    other.execute("COMMIT")
    other.close()
    client.join()
    assert answers[0].status_code == 200


def test_a_database_that_another_process_holds_too_long_is_a_503_and_nothing_is_acknowledged(
    idle_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hidream_edit.queue.sqlite.store.BUSY_SECONDS", 0.1)
    known = idle_server.submit()["request_id"]
    other = sqlite3.connect(idle_server.store_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = idle_server.client.post(f"/queue{APP}", json=an_input())
    assert (refused.status_code, refused.headers["x-fal-needs-retry"]) == (503, "1")
    assert idle_server.client.get(f"/queue{APP}/requests/{known}/status").json()["status"] == "IN_QUEUE"
    other.execute("COMMIT")
    other.close()
    after = idle_server.submit()["request_id"]
    assert [one.id for one in idle_server.store.line()] == [known, after]


def _roomy(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA max_page_count = 1000000")
    return connection
