"""Named statements out of ``.sql`` files: each begins with ``-- name: why``. Most are the same for all databases."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable

_HEADING = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def read_queries(dialect: Traversable) -> dict[str, str]:
    """Statement by name: those that all databases share, and those of ``dialect``.

    Raises:
        ValueError: a name occurs twice.
    """
    common = resources.files("hidream_edit.queue").joinpath("queries.sql")
    names, bodies = [], []
    for file in (common, dialect):
        parts = _HEADING.split(file.read_text(encoding="utf-8"))
        names += parts[1::2]
        bodies += parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{dialect.name} names a statement twice, or one that all share")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}


def read_migrations(folder: Traversable) -> list[tuple[int, str]]:
    """Numbered steps of a schema, in order."""
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name.partition("_")[0]), file.read_text(encoding="utf-8")) for file in files)
