"""``hidream-edit serve`` and ``hidream-edit runner``."""

from __future__ import annotations

from typing import Annotated

import typer

from hidream_edit.cli.options import (
    Adapter,
    Base,
    BlobsAt,
    Data,
    Database,
    Device,
    Devices,
    Dtype,
    Float8Option,
    LogFormatOption,
    MeasuresOption,
    Memory,
    Model,
    QualityOption,
    QuantizationOption,
    RequireSafety,
    TextEncoder4,
    given,
)
from hidream_edit.cli.terminal import Terminal


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="8000")] = None,
    data: Data = None,
    database: Database = None,
    blobs: BlobsAt = None,
    no_runner: Annotated[
        bool, typer.Option("--no-runner", help="Start no runner here; others run `hidream-edit runner`.")
    ] = False,
    tls: Annotated[bool | None, typer.Option("--tls", help="Speak TLS; see `hidream-edit dev-tls`.")] = None,
    open_to_all: Annotated[
        bool | None, typer.Option("--open-to-all", help="Serve other machines although no key exists.")
    ] = None,
    model: Model = None,
    adapter: Adapter = None,
    base: Base = None,
    text_encoder_4: TextEncoder4 = None,
    device: Device = None,
    devices: Annotated[
        str | None,
        typer.Option(help="cuda:0,cuda:1…: a runner for each.", show_default="every CUDA device"),
    ] = None,
    devices_per_edit: Annotated[
        int | None, typer.Option(help="That many of them do one edit together.", show_default="1")
    ] = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quality: QualityOption = None,
    float8: Float8Option = None,
    quantization: QuantizationOption = None,
    measures: MeasuresOption = None,
    require_safety_checker: RequireSafety = False,
    log_format: LogFormatOption = None,
) -> None:
    """Serve the hosted endpoint's API, with a runner for each device beside it."""
    from hidream_edit.domain.errors import HidreamEditError
    from hidream_edit.settings import LogSettings, ModelSettings, ServerSettings
    from hidream_edit.telemetry.logs import set_up
    from hidream_edit.wiring.devices import devices_of_runners
    from hidream_edit.wiring.exit_codes import exit_code_of
    from hidream_edit.wiring.serve import runner_commands
    from hidream_edit.wiring.serve import serve as run_server

    logs = LogSettings(**given({"format": log_format}))
    set_up(logs.format, "api")
    terminal = Terminal(as_log=logs.format == "json")
    server = {"host": host, "port": port, "data": data, "database": database, "blobs": blobs, "tls": tls}
    server |= {"open_to_all": open_to_all, "devices_per_edit": devices_per_edit}
    settings = ServerSettings(**given(server))
    asked = {"--model": model, "--adapter": adapter, "--base": base, "--text-encoder-4": text_encoder_4}
    asked |= {"--device": device, "--dtype": dtype, "--memory": memory, "--quality": quality}
    asked |= {"--quantization": quantization, "--measures": measures, "--log-format": log_format}
    options = [word for name, value in given(asked).items() for word in (name, value)]
    if float8:
        options.append("--float8")
    if require_safety_checker:
        options.append("--require-safety-checker")
    try:
        commands: list[list[str]] = []
        if not no_runner:
            models = ModelSettings(**given({"model": model, "device": device, "devices": devices}))
            commands = runner_commands(settings, options, devices_of_runners(models, settings.devices_per_edit))
        run_server(settings, terminal.say, commands)
    except HidreamEditError as error:
        terminal.fail(str(error))
        raise typer.Exit(exit_code_of(error)) from error


def runner(
    data: Data = None,
    database: Database = None,
    blobs: BlobsAt = None,
    model: Model = None,
    adapter: Adapter = None,
    base: Base = None,
    text_encoder_4: TextEncoder4 = None,
    device: Device = None,
    devices: Devices = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quality: QualityOption = None,
    float8: Float8Option = None,
    quantization: QuantizationOption = None,
    measures: MeasuresOption = None,
    require_safety_checker: RequireSafety = False,
    log_format: LogFormatOption = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Work on jobs of a server that shares the data folder."""
    from hidream_edit.domain.errors import HidreamEditError
    from hidream_edit.settings import LogSettings, ModelSettings, RunnerSettings, SafetySettings, ServerSettings
    from hidream_edit.telemetry.logs import set_up
    from hidream_edit.wiring.exit_codes import exit_code_of
    from hidream_edit.wiring.runner import work

    logs = LogSettings(**given({"format": log_format}))
    set_up(logs.format, "runner")
    terminal = Terminal(as_log=logs.format == "json")
    asked = {"model": model, "adapter": adapter, "base": base, "text_encoder_4": text_encoder_4}
    asked |= {"device": device, "devices": devices, "dtype": dtype, "memory": memory, "quality": quality}
    asked |= {"quantization": quantization, "measures": measures}
    try:
        settings = ServerSettings(**given({"data": data, "database": database, "blobs": blobs}))
        safety = SafetySettings(**given({"required": require_safety_checker or None}))
        models = ModelSettings(**given(asked), **given({"float8": float8}))
        work(settings, models, safety, RunnerSettings(), supervised=supervised)
    except HidreamEditError as error:
        terminal.fail(str(error))
        raise typer.Exit(exit_code_of(error)) from error


def dev_tls(data: Data = None) -> None:
    """Make certificates for the hosted service's names, so that clients with fixed addresses reach this server."""
    from hidream_edit.settings import ServerSettings
    from hidream_edit.wiring.dev_tls import made

    settings = ServerSettings(**given({"data": data}))
    for line in made(settings.folder, settings.bases).lines():
        typer.echo(line)
