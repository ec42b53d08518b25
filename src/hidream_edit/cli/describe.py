"""``hidream-edit describe``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hidream_edit.cli.options import given
from hidream_edit.cli.terminal import Terminal


def describe(
    image: Annotated[str, typer.Argument(help="File, web address, data URI or -.")],
    instruction: Annotated[str, typer.Argument(help="What to change.")],
    describer_url: Annotated[str | None, typer.Option(help="OpenAI-compatible address of the model.")] = None,
    describer_model: Annotated[str | None, typer.Option(help="Its name there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a vision-language model for a clear instruction and a description of the result."""
    from hidream_edit.describer.describer import Description
    from hidream_edit.domain.errors import DescriberFailed, HidreamEditError
    from hidream_edit.settings import DescriberSettings
    from hidream_edit.wiring.describe import describe as ask
    from hidream_edit.wiring.exit_codes import exit_code_of

    terminal = Terminal()
    try:
        answer = ask(image, instruction, DescriberSettings(**given({"url": describer_url, "model": describer_model})))
    except DescriberFailed as problem:
        terminal.warn(f"{problem}; the plain instruction stays")
        answer = Description("", instruction, "")
    except HidreamEditError as error:
        terminal.fail(str(error))
        raise typer.Exit(exit_code_of(error)) from error
    lines = {"source": answer.source, "instruction": answer.instruction, "target": answer.target}
    if as_json:
        typer.echo(json.dumps(lines))
    else:
        for name, line in lines.items():
            typer.echo(f"{name + ':':13s}{line}")
