"""What the code imports is what the package asks for, part by part; and the other way round."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scripts.package import ROOT

PACKAGE = ROOT / "src" / "hidream_edit"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Files and folders that need more than what is always there, and the extra that brings it.
EXTRAS = {
    "api": "serve",
    "webhooks": "serve",
    "wiring/serve.py": "serve",
    "wiring/dev_tls.py": "serve",
    "pictures/isolated.py": "serve",
    "telemetry/meters.py": "serve",
    "telemetry/otlp.py": "otel",
    "queue/postgres": "postgres",
    "blobs/s3.py": "s3",
    "engine": "engine",
}
# Used where somebody has installed them, and done without where not.
OPTIONAL = {"pillow_heif": "pictures of Apple's phones", "uvloop": "a faster loop, which uvicorn[standard] brings"}
NOT_IMPORTED = {
    "protobuf": "transformers reads T5's spiece.model with it",
    "sentencepiece": "transformers reads T5's spiece.model with it",
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def declared(extra: str | None = None) -> set[str]:
    """Names that the package always asks for, or with an extra."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def imported(file: Path) -> Iterator[str]:
    """Top-level modules of others, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        else:
            continue
        for name in {name.partition(".")[0] for name in names}:
            if name not in sys.stdlib_module_names and name not in ("hidream_edit", "__future__"):
                yield name


@cache
def holders() -> Mapping[str, list[str]]:
    return packages_distributions()


def brought_by(module: str) -> set[str]:
    """Names of the packages that hold a module."""
    return {canonicalize_name(name) for name in holders().get(module, ())}


def extra_of(part: str) -> str | None:
    return next((extra for place, extra in EXTRAS.items() if part == place or part.startswith(f"{place}/")), None)


def test_a_file_imports_only_what_is_asked_for_where_it_is_used() -> None:
    forgotten = []
    for file in SOURCES:
        part = file.relative_to(PACKAGE).as_posix()
        extra = extra_of(part)
        allowed = declared() | (declared(extra) if extra is not None else set())
        missing = {name for name in imported(file) if name not in OPTIONAL and not brought_by(name) & allowed}
        forgotten += [(part, name) for name in sorted(missing)]
    assert forgotten == []


def test_what_is_asked_for_is_imported_or_needed_for_a_reason() -> None:
    files = [*SOURCES, *(ROOT / "training").rglob("*.py")]
    used = {name for file in files for module in imported(file) for name in brought_by(module)}
    asked = declared().union(*(declared(extra) for extra in PROJECT["optional-dependencies"]))
    assert asked - used == set(NOT_IMPORTED)


def test_the_parts_that_need_an_extra_are_there() -> None:
    assert [place for place in EXTRAS if not (PACKAGE / place).exists()] == []
