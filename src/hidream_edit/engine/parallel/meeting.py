"""The folder in which the ranks of a group find one another: for this user only, and not left behind for long."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "hidream-edit-ranks-"
LOCK, RANKS = "lock", "ranks"


class MeetingFolder:
    """Made and locked by rank 0. The system gives the lock back however rank 0 ends, so the next group knows which
    folders nobody needs any more, and removes them."""

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        _sweep(base)
        fresh = Path(tempfile.mkdtemp(prefix="." + PREFIX))
        self._lock = os.open(fresh / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Under its final name it has always been locked.
        self.path = fresh.rename(fresh.with_name(fresh.name.removeprefix(".")))

    def remove(self) -> None:
        """Nobody meets here any more."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def meeting_place(folder: str | Path) -> Path:
    """The file by which the ranks find one another."""
    return Path(folder) / RANKS


def _sweep(base: Path) -> None:
    """Remove the folders of groups whose rank 0 was killed."""
    for folder in base.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # locked, somebody else's, or gone already
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
