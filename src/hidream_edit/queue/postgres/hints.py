"""Hints through the database: NOTIFY after the commit and from a connection of its own, LISTEN in who waits.

Inside the transactions, NOTIFY would make their commits stand in line; many that come together are sent as one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import psycopg

CHANNEL = "hidream_edit"
RETRY_SECONDS = 0.05
CONNECT_SECONDS = 10
Connection = psycopg.Connection[Any]


class NotifyHints:
    """See `Hints`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()
        self._listening: list[Connection] = []
        self._changed, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._notifier: threading.Thread | None = None

    def give(self) -> None:
        """Have a notification sent soon."""
        self._changed.set()
        if self._notifier is None:
            with self._lock:
                if self._notifier is None:
                    self._notifier = threading.Thread(target=self._notify, name="notifier", daemon=True)
                    self._notifier.start()

    def _notify(self) -> None:
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
                    while not self._closed.is_set():
                        self._changed.wait()
                        self._changed.clear()
                        connection.execute(f"NOTIFY {CHANNEL}")
            except psycopg.Error:
                self._closed.wait(RETRY_SECONDS)

    def pause(self, seconds: float) -> None:
        """Sleep until a notification comes; without the database, a moment."""
        try:
            for _ in self._connection().notifies(timeout=seconds, stop_after=1):
                pass
        except psycopg.Error:
            self._local.connection = None
            time.sleep(min(seconds, RETRY_SECONDS))

    def _connection(self) -> Connection:
        existing: Connection | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        connection.execute(f"LISTEN {CHANNEL}")
        self._local.connection = connection
        with self._lock:
            self._listening = [*(one for one in self._listening if not one.closed), connection]
        return connection

    def close(self) -> None:
        """Close the connections of this process."""
        self._closed.set()
        self._changed.set()
        with self._lock:
            for connection in self._listening:
                with contextlib.suppress(psycopg.Error):
                    connection.close()
