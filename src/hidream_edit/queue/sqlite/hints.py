"""Hints between the processes of one machine: a datagram socket per waiting thread, in a folder beside the database."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
import uuid
from pathlib import Path

NO_SOCKET_SECONDS = 0.01
SETTLED_NANOSECONDS = 100_000_000
NOTHING = b"\0"


class SocketHints:
    """See `Hints`. Where sockets cannot be had, pauses are short instead."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._local = threading.local()
        self._lock = threading.Lock()
        self._ours: list[tuple[socket.socket, Path]] = []
        self._sender: socket.socket | None = None
        self._listed: list[Path] = []
        self._listed_at = 0
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sender = _datagrams()

    def give(self) -> None:
        """Wake whoever waits. A socket that nobody holds any more is what a killed process left behind."""
        if self._sender is None:
            return
        for address in self._addresses():
            try:
                self._sender.sendto(NOTHING, str(address))
            except ConnectionRefusedError:
                address.unlink(missing_ok=True)
            except OSError:
                continue  # full: it has been woken already

    def _addresses(self) -> list[Path]:
        """Read again only when a socket has come or gone."""
        try:
            changed_at = self._folder.stat().st_mtime_ns
            if changed_at != self._listed_at:
                self._listed = list(self._folder.iterdir())
                # A change within the same tick of the file system's clock would not be seen.
                is_settled = time.time_ns() - changed_at > SETTLED_NANOSECONDS
                self._listed_at = changed_at if is_settled else 0
        except OSError:
            return []
        return self._listed

    def pause(self, seconds: float) -> None:
        """Sleep until a hint comes."""
        bell = self._bell()
        if bell is None:
            time.sleep(min(seconds, NO_SOCKET_SECONDS))
            return
        select.select([bell], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while True:
                bell.recv(1)

    def _bell(self) -> socket.socket | None:
        if not hasattr(self._local, "bell"):
            self._local.bell = self._opened()
        bell: socket.socket | None = self._local.bell
        return bell

    def _opened(self) -> socket.socket | None:
        address = self._folder / uuid.uuid4().hex[:8]
        if self._sender is None:
            return None
        with contextlib.ExitStack() as unless_bound:
            try:
                bell = unless_bound.enter_context(_datagrams())
                bell.bind(str(address))
            except OSError:  # the path is too long, or the disk is full
                return None
            unless_bound.pop_all()
        with self._lock:
            self._ours.append((bell, address))
        return bell

    def close(self) -> None:
        """Close and remove this process's sockets."""
        with self._lock:
            for bell, address in self._ours:
                bell.close()
                address.unlink(missing_ok=True)
            self._ours.clear()
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
