"""``hidream-edit models``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from hidream_edit.cli.options import Dtype, Memory, QuantizationOption
from hidream_edit.domain.quantization import Quantization


def models(
    edits: Annotated[
        bool, typer.Option("--edits", help="List the edits that the mini model knows, with examples.")
    ] = False,
    plan: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Show which of its parts would be where on a GPU with --memory; nothing is loaded. HiDream-E1-Full "
            "and HiDream-I1-Full (with the adapter) are known without their files.",
        ),
    ] = None,
    memory: Memory = None,
    host_memory: Annotated[
        str | None, typer.Option(help="For --plan: memory of the machine.", show_default="as much as it takes")
    ] = None,
    dtype: Dtype = None,
    quantization: QuantizationOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models: what is here, and what each needs."""
    from rich.console import Console
    from rich.table import Table

    from hidream_edit.engine.known_models import bundled_edits, known_models

    if plan is not None:
        _print_plan(plan, memory, host_memory, dtype, quantization, as_json=as_json)
        return
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


def _print_plan(
    model: str,
    memory: str | None,
    host_memory: str | None,
    dtype: str | None,
    quantization: Quantization | None,
    *,
    as_json: bool,
) -> None:
    from hidream_edit.cli.terminal import Terminal
    from hidream_edit.domain.errors import HidreamEditError
    from hidream_edit.wiring.exit_codes import exit_code_of
    from hidream_edit.wiring.plan import plan

    try:
        made = plan(model, memory, host=host_memory, dtype=dtype, quantization=quantization or Quantization.NONE)
    except HidreamEditError as error:
        Terminal().fail(str(error))
        raise typer.Exit(exit_code_of(error)) from error
    if as_json:
        facts = {"phases": made.phases, "peak": made.peak, "host": made.host_peak}
        facts |= {"bus_per_step": made.bus_bytes_per_step, "bus_per_text": made.bus_bytes_per_text}
        typer.echo(json.dumps(facts | {"disk_per_text": made.disk_bytes_per_text}))
        return
    typer.echo(made.table())
