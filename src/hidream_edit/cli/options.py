"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from hidream_edit.domain.quality import Quality
from hidream_edit.domain.quantization import Quantization


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


Data = Annotated[str | None, typer.Option(help="Folder of jobs and files.", show_default="~/.local/share/hidream-edit")]
Database = Annotated[str | None, typer.Option(help="postgresql:// address.", show_default="a file in the data folder")]
BlobsAt = Annotated[
    str | None, typer.Option("--blobs", help="s3://bucket/prefix of files.", show_default="in the data folder")
]
Model = Annotated[
    str | None, typer.Option(help='Model folder or hub id; "null" edits without a model.', show_default="mini")
]
Adapter = Annotated[str | None, typer.Option(help="E1 adapter file, where the model is HiDream-I1-Full.")]
Base = Annotated[str | None, typer.Option(help="HiDream-I1-Full, for a refine stage after the full E1 folder.")]
TextEncoder4 = Annotated[
    str | None, typer.Option("--text-encoder-4", help="Llama folder or id, where the model lacks it.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1…", show_default="by what is there")]
Devices = Annotated[
    str | None,
    typer.Option(help="cuda:0,cuda:1…: each edit on all of them.", show_default="one device"),
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16.", show_default="by the device")]
Memory = Annotated[
    str | None,
    typer.Option(help="Device memory to stay within: auto, 24GB…", show_default="what is free"),
]
QualityOption = Annotated[
    Quality | None,
    typer.Option("--quality", help="What may be traded for time.", show_default="the model's, else exact"),
]
Float8Option = Annotated[
    bool | None,
    typer.Option("--float8", help="Edits that are not exact multiply in float8; newer GPUs only.", show_default=False),
]
QuantizationOption = Annotated[
    Quantization | None,
    typer.Option("--quantization", help="What weights are kept as, to save memory.", show_default="as they are"),
]
MeasuresOption = Annotated[
    str | None,
    typer.Option("--measures", help="Changes to how less is computed: compiled,no-grouped…", show_default="none"),
]

RequireSafety = Annotated[
    bool, typer.Option("--require-safety-checker", help="Do not start without a checker of pictures.")
]


LogFormatOption = Annotated[
    LogFormat | None,
    typer.Option("--log-format", help="Log words, or a JSON object per line.", show_default="text"),
]


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given; the rest is left to the environment."""
    return {name: value for name, value in options.items() if value is not None}
