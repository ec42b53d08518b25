"""Numbered steps of a schema, and which programs can work with what they made.

A step says in a line of its own ``-- programs since: 14`` which is the first schema whose programs go on working after
it. Without that line only programs that know the step itself do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from typing import NamedTuple

from hidream_edit.domain.errors import StoreUnusable

logger = logging.getLogger(__name__)

PROMISES_BEGIN = 14  # the step that made the table `compatibility`; before it, nothing was promised
_SINCE = re.compile(r"^-- programs since: (\d+)$", re.MULTILINE)


class Migration(NamedTuple):
    """A step. ``oldest`` is the first schema whose programs can work with what it makes."""

    number: int
    script: str
    oldest: int


class Schemas(NamedTuple):
    """What this program knows, beside what a database has seen."""

    known: int  # the newest
    seen: int  # 0: nothing is there yet
    oldest: int  # the first whose programs can work with the database
    later: int  # the same, once this program has brought it up to date

    @property
    def is_newer(self) -> bool:
        """Whether a newer program has made it."""
        return self.seen > self.known

    @property
    def shuts_out(self) -> bool:
        """Whether bringing it up to date ends the work of programs that made it."""
        return self.later > self.seen

    @property
    def is_refused(self) -> bool:
        """Whether it is too new for this program."""
        return self.is_newer and self.oldest > self.known


def read_migrations(folder: Traversable) -> list[Migration]:
    """The steps in ``folder``, in order."""
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(_migration(int(file.name.partition("_")[0]), file.read_text(encoding="utf-8")) for file in files)


def _migration(number: int, script: str) -> Migration:
    since = _SINCE.search(script)
    return Migration(number, script, number if since is None else int(since[1]))


def compared(steps: Sequence[Migration], *, seen: int, oldest: int = 0) -> Schemas:
    """Our ``steps`` beside a database."""
    later = max([oldest, *(step.oldest for step in steps if step.number > seen)])
    return Schemas(steps[-1].number, seen, oldest, later)


def steps_to_take(steps: Sequence[Migration], schemas: Schemas, what: str) -> Sequence[Migration]:
    """What ``what``, a database, lacks; nothing where a newer program has made it and this one can go on.

    Raises:
        StoreUnusable: it is too new.
    """
    if schemas.is_refused:
        raise StoreUnusable(
            f"{what} has schema {schemas.seen} and wants a program that knows schema {schemas.oldest}, this one knows "
            f"{schemas.known}: use the newer program"
        )
    if schemas.is_newer:
        logger.info("%s has schema %d, made by a newer program; this one goes on", what, schemas.seen)
    return [step for step in steps if step.number > schemas.seen]
