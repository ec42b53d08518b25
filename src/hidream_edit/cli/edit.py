"""``hidream-edit edit``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hidream_edit.cli.options import (
    Devices,
    Float8Option,
    MeasuresOption,
    Memory,
    QualityOption,
    QuantizationOption,
    given,
)
from hidream_edit.cli.terminal import Terminal
from hidream_edit.domain.edit import EditInput, Fit


class Format(StrEnum):
    """Formats of the result."""

    JPEG = "jpeg"
    PNG = "png"


def edit(
    images_and_instruction: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... INSTRUCTION",
            help="Files, folders, web addresses, data URIs or - for standard input; the last word is the instruction.",
        ),
    ],
    description: Annotated[str | None, typer.Option(help="What the result shows.")] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What it must not be.", show_default="the model's")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", "--num-inference-steps", help="1 to 50.", show_default="the model's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same bytes.", show_default="random")] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="How strictly the words are followed, 0 to 20; up to 1, no image guidance, no negative prompt.",
            show_default="the model's",
        ),
    ] = None,
    image_guidance_scale: Annotated[
        float | None, typer.Option(help="How strictly the source is kept, 0 to 20.", show_default="the model's")
    ] = None,
    num_images: Annotated[int | None, typer.Option(help="1 to 4; image k has seed + k.", show_default="1")] = None,
    sync_mode: Annotated[
        bool, typer.Option("--sync-mode", help="Store nothing; the JSON report carries data URIs.")
    ] = False,
    enable_safety_checker: Annotated[
        bool | None,
        typer.Option(help="Check the pictures, where --server has a checker; here there is none.", show_default=False),
    ] = None,
    output_format: Annotated[
        Format | None, typer.Option(help="Format of the result.", show_default="by --output, else jpeg")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Edit at this address, where `hidream-edit serve` runs, instead of here.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Key for that server.", show_default="HIDREAM_EDIT_KEY, else FAL_KEY")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model folder or hub id.", show_default="the bundled mini model")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="E1 adapter file, where the model is HiDream-I1-Full.")] = None,
    base: Annotated[
        str | None, typer.Option(help="HiDream-I1-Full, for a refine stage after the full E1 folder.")
    ] = None,
    text_encoder_4: Annotated[
        str | None, typer.Option("--text-encoder-4", help="Llama folder or id, where the model lacks it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1…", show_default="by what is there")] = None,
    devices: Devices = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16.", show_default="by the device")] = None,
    memory: Memory = None,
    keep_aspect: Annotated[
        bool, typer.Option("--keep-aspect", help="Pad the square instead of squeezing the picture.")
    ] = False,
    refine_strength: Annotated[
        float | None,
        typer.Option(help="Share of the steps that the base model refines, 0 to 1.", show_default="the model's"),
    ] = None,
    detail: Annotated[
        bool | None,
        typer.Option(help="Bring back the source's own detail at its own size.", show_default="the model's"),
    ] = None,
    quality: QualityOption = None,
    float8: Float8Option = None,
    quantization: QuantizationOption = None,
    measures: MeasuresOption = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="File, folder, or - for standard output.", show_default="the current folder"
        ),
    ] = None,
    save_steps: Annotated[Path | None, typer.Option(help="Folder for a preview after each step.")] = None,
    compare: Annotated[Path | None, typer.Option(help="File for before and after side by side.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON report, one line per source.")] = False,
    describer_url: Annotated[str | None, typer.Option(help="OpenAI-compatible address of a describer.")] = None,
    describer_model: Annotated[str | None, typer.Option(help="Its model.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a fault of this program happened.")] = False,
) -> None:
    """Edit pictures: hidream-edit edit photo.jpg "make it a pencil sketch"."""
    from hidream_edit.settings import DescriberSettings, ModelSettings
    from hidream_edit.wiring.edit import EditOrder, run
    from hidream_edit.wiring.exit_codes import ExitCode
    from hidream_edit.wiring.outputs import OutputPlan

    if len(images_and_instruction) < 2:
        raise typer.BadParameter("give at least one image, then the instruction")
    *sources, instruction = images_and_instruction
    terminal = Terminal(quiet=quiet)
    order = EditOrder(
        sources=sources,
        edit_input=EditInput(
            edit_instruction=instruction,
            target_image_description=description,
            negative_prompt=negative_prompt,
            num_inference_steps=steps,
            seed=seed,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            num_images=num_images,
            refine_strength=refine_strength,
            fit=Fit.PAD if keep_aspect else None,
            detail=detail,
            quality=quality,
        ),
        plan=OutputPlan(output, output_format.value if output_format else None, as_data_uris=sync_mode),
        save_steps=save_steps,
        compare=compare,
        safety_checker=enable_safety_checker,
        as_json=as_json or sync_mode,
    )
    asked = {
        "model": model,
        "adapter": adapter,
        "base": base,
        "text_encoder_4": text_encoder_4,
        "device": device,
        "devices": devices,
        "dtype": dtype,
        "memory": memory,
        "float8": float8,
        "quantization": quantization,
        "measures": measures,
    }
    try:
        describing = DescriberSettings(**given({"url": describer_url, "model": describer_model}))
        if server is None:
            code = run(order, ModelSettings(**given(asked)), describing, terminal)
        else:
            from hidream_edit.wiring import edit_on_server

            here_only = {**asked, "refine_strength": refine_strength, "detail": detail, "save_steps": save_steps}
            names = tuple(given(here_only)) + (("keep_aspect",) if keep_aspect else ())
            options = tuple("--" + name.replace("_", "-") for name in names)
            choice = edit_on_server.ServerChoice(server, key, options)
            code = edit_on_server.run(order, choice, describing, terminal, progress=False if quiet else None)
    except Exception as fault:
        if debug:
            raise
        if isinstance(fault, ModuleNotFoundError):
            raise  # it may be that an extra is not installed
        terminal.fail(f"{type(fault).__name__}: {fault} (a fault of this program; --debug shows where)")
        code = ExitCode.FAILED
    raise typer.Exit(code)
