"""``hidream-edit models``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def models(
    edits: Annotated[
        bool, typer.Option("--edits", help="List the edits that the mini model knows, with examples.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models: what is here, and what each needs."""
    from rich.console import Console
    from rich.table import Table

    from hidream_edit.engine.known_models import bundled_edits, known_models

    if edits:
        known = bundled_edits()
        if as_json:
            typer.echo(json.dumps(known))
            return
        for family, examples in known.items():
            typer.echo(f"{family.replace('_', ' '):16s} {'; '.join(examples)}")
        return
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in known_models()]))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "here", "load it with", "needs", "does"):
        table.add_column(heading, overflow="fold")
    for model in known_models():
        table.add_row(model.name, "yes" if model.is_here else "no", model.how_to_load, model.needs, model.what)
    Console(highlight=False).print(table)
