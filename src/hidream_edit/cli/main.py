"""The command ``hidream-edit``."""

from __future__ import annotations

import re
import sys
from importlib import metadata

import typer

from hidream_edit.cli.describe import describe
from hidream_edit.cli.doctor import doctor
from hidream_edit.cli.edit import edit
from hidream_edit.cli.models import models
from hidream_edit.cli.owner import keys, migrate, requests
from hidream_edit.cli.serve import dev_tls, runner, serve
from hidream_edit.version import __version__

app = typer.Typer(
    help="Edit photographs with words, on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hidream-edit {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command()(edit)
app.command()(models)
app.command()(describe)
app.command()(serve)
app.command()(runner)
app.add_typer(keys, name="keys")
app.add_typer(requests, name="requests")
app.command()(migrate)
app.command()(doctor)
app.command("dev-tls")(dev_tls)


def run() -> None:
    """Entry point: Ctrl-C outside of an edit ends without a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except ModuleNotFoundError as missing:
        if (extra := extra_with(missing.name or "")) is None:
            raise
        sys.stderr.write(f"this needs more than is installed: pip install 'hidream-edit[{extra}]'\n")
        sys.exit(2)


def extra_with(module: str) -> str | None:
    """The extra of this package that brings ``module``, as its own metadata says; None where none does."""
    wanted = module.partition(".")[0].replace("_", "-")
    for requirement in metadata.requires("hidream-edit") or ():
        name, _, condition = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        if extra and re.match(r"[\w.-]+", name)[0].lower() == wanted.lower():  # type: ignore[index]
            return extra[1]
    return None
