"""A runner that kills itself at the n-th thing it does to the outside: `python -m tests.support.crashing_runner …`.

Every call to the store and to the blobs, and every step of the engine, counts before and after. Without a number to
die at, it works until the line is empty and prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hidream_edit.blobs.folder import FolderObjects
from hidream_edit.blobs.store import Blobs
from hidream_edit.pictures.sources import from_data_uri
from hidream_edit.queue.sql_blobs import SqlBlobRows
from hidream_edit.queue.sqlite.store import SqliteStore
from hidream_edit.runner.runner import Runner, RunnerLimits
from hidream_edit.testing import NullEngine

LEASE_SECONDS = 0.4
COUNTED = ("claim", "append_events", "complete", "put", "add")


class Counter:
    """Counts, and kills this process when the number is reached."""

    def __init__(self, die_at: int | None) -> None:
        self._die_at, self.count = die_at, 0

    def tick(self) -> None:
        self.count += 1
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, target: Any) -> None:
        """Count before and after each call of the methods that matter."""
        for name in COUNTED:
            if hasattr(target, name):
                setattr(target, name, self._counted(getattr(target, name)))

    def _counted(self, method: Any) -> Any:
        def call(*args: Any, **fields: Any) -> Any:
            self.tick()
            answer = method(*args, **fields)
            self.tick()
            return answer

        return call

    def engine(self) -> NullEngine:
        tick = self.tick

        class Counted(NullEngine):
            def edit(self, *args: Any) -> Iterator[Any]:
                for progress in super().edit(*args):
                    tick()
                    yield progress

        return Counted(seconds_per_step=0.06)  # longer than a log waits, so that each step is written


def main() -> None:
    folder, die_at = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    store, objects, counter = SqliteStore(folder / "jobs.sqlite3"), FolderObjects(folder / "blobs"), Counter(die_at)
    rows = SqlBlobRows(store)
    for outside in (store, objects, rows):
        counter.around(outside)
    blobs = Blobs(objects, rows)
    runner = Runner(store, blobs, counter.engine(), from_data_uri, limits=RunnerLimits(LEASE_SECONDS, 0.1))
    job = store.claim(runner_id=runner.id, now=time.time(), lease_seconds=LEASE_SECONDS)
    if job is not None:
        runner.work_on(job)
    store.close()
    sys.stdout.write(str(counter.count))


if __name__ == "__main__":
    main()
