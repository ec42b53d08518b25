"""``hidream-edit doctor``."""

from __future__ import annotations

import typer

from hidream_edit.cli.options import (
    Adapter,
    Base,
    BlobsAt,
    Data,
    Database,
    Device,
    Dtype,
    Model,
    TextEncoder4,
    given,
)


def doctor(
    data: Data = None,
    database: Database = None,
    blobs: BlobsAt = None,
    model: Model = None,
    adapter: Adapter = None,
    base: Base = None,
    text_encoder_4: TextEncoder4 = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Check what a server and a runner need, one line each, and say what to do."""
    from hidream_edit.settings import ModelSettings, ServerSettings
    from hidream_edit.wiring.doctor import examine, exit_code_of

    asked = {"model": model, "adapter": adapter, "base": base, "text_encoder_4": text_encoder_4}
    models = ModelSettings(**given(asked | {"device": device, "dtype": dtype}))
    findings = []
    for finding in examine(ServerSettings(**given({"data": data, "database": database, "blobs": blobs})), models):
        typer.echo(finding.line())
        findings.append(finding)
    raise typer.Exit(exit_code_of(findings))
