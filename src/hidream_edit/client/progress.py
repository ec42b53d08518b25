"""A progress bar on a terminal, from the statuses of a request."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hidream_edit.client.statuses import Queued, Running, Status
from hidream_edit.client.talks import Listener

_terminal = threading.Lock()


@contextmanager
def shown(progress: bool | None) -> Iterator[Listener | None]:
    """Where to say each status: a bar on standard error, where that is a terminal and ``progress`` is not False.

    Of several edits at a time one has a bar.
    """
    if progress is False or not sys.stderr.isatty() or not _terminal.acquire(blocking=False):
        yield None
        return
    try:
        with _bar() as listener:
            yield listener
    finally:
        _terminal.release()


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console  # slow to import, and most programs have no terminal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sending", total=None)

        def show(status: Status) -> None:
            total, done = steps_of(status)
            bar.update(task, description=words_of(status), total=total, completed=done)

        yield show


def words_of(status: Status) -> str:
    """A status in a few words."""
    if isinstance(status, Queued):
        return f"waiting, {status.position} before" if status.position else "waiting, next"
    if isinstance(status, Running):
        return f"step {status.step[0]} of {status.step[1]}" if status.step else "starting"
    return "fetching" if status.ok else "failed"


def steps_of(status: Status) -> tuple[int | None, int]:
    """How many steps there are, where that is known, and how many are done."""
    step = status.step if isinstance(status, Running) else None
    return (None, 0) if step is None else (step[1], step[0])
