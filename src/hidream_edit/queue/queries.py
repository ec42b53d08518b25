"""Named statements out of a ``.sql`` file: each begins with ``-- name: why``."""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable

_HEADING = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def read_queries(file: Traversable) -> dict[str, str]:
    """Statement by name.

    Raises:
        ValueError: a name occurs twice.
    """
    parts = _HEADING.split(file.read_text(encoding="utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file.name} names a statement twice")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}


def read_migrations(folder: Traversable) -> list[tuple[int, str]]:
    """Numbered steps of a schema, in order."""
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name.partition("_")[0]), file.read_text(encoding="utf-8")) for file in files)
