"""Named statements out of ``.sql`` files: each begins with ``-- name: why``. Most are the same for all databases.

A statement may hold another one's text, as ``{name}``; those named ``columns_…`` are there for nothing else.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable

_HEADING = re.compile(r"^-- (\w+): .*$", re.MULTILINE)
_PART = re.compile(r"\{(\w+)\}")
_ONLY_A_PART = "columns_"


def read_queries(dialect: Traversable) -> dict[str, str]:
    """Statement by name: those that all databases share, and those of ``dialect``.

    Raises:
        ValueError: a name occurs twice.
        KeyError: a statement asks for the text of one that is not there.
    """
    common = resources.files("hidream_edit.queue").joinpath("queries.sql")
    names, bodies = [], []
    for file in (common, dialect):
        parts = _HEADING.split(file.read_text(encoding="utf-8"))
        names += parts[1::2]
        bodies += parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{dialect.name} names a statement twice, or one that all share")
    texts = {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}
    whole = {name: _PART.sub(lambda part: texts[part[1]], text) for name, text in texts.items()}
    return {name: text for name, text in whole.items() if not name.startswith(_ONLY_A_PART)}
