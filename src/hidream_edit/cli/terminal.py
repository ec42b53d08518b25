"""What a person at the terminal sees."""

from __future__ import annotations

import logging
import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Terminal:
    """Results on standard output, everything else on standard error.

    ``as_log`` turns both into log lines, for programs that read nothing else.
    """

    def __init__(self, *, quiet: bool = False, as_log: bool = False) -> None:
        self._log = logging.getLogger(__name__) if as_log else None
        self._console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def say(self, message: str) -> None:
        if self._log is not None:
            if message:  # an empty line is for the eye
                self._log.info(message)
            return
        sys.stdout.write(message + "\n")
        sys.stdout.flush()

    def warn(self, message: str) -> None:
        self._print(f"[yellow]note:[/yellow] {escape(message)}")

    def fail(self, message: str) -> None:
        if self._log is not None:
            self._log.error(message)
            return
        self._print(f"[bold red]error:[/bold red] {escape(message)}")

    def _print(self, markup: str) -> None:
        # A terminal has a width to keep to; whoever reads a pipe looks for whole paths.
        self._console.print(markup, soft_wrap=not self._console.is_terminal)

    def loading(self, message: str) -> None:
        """What a model that takes long to load is doing; the small one is there before one could read it."""
        if not self._quiet and ("\n" in message or "/s" in message):
            self._console.print(f"[dim]{escape(message)}[/dim]", soft_wrap=True)

    def begin_steps(self, total: int, *, seed: int, source: str) -> None:
        if self._quiet:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(compact=True),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._progress.start()
        self._task = self._progress.add_task(escape(f"{source[-40:]}  seed {seed}"), total=total)

    def step(self, done: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def end_steps(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
