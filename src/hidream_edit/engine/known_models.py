"""Models that this engine runs, and what each needs; nothing here loads torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

MINI = "mini"
BUNDLED = Path(__file__).parent.parent / MINI


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A line of ``hidream-edit models``."""

    name: str
    how_to_load: str
    needs: str
    what: str
    is_here: bool


def bundled_is_here() -> bool:
    """Whether the package was built with its mini model."""
    return (BUNDLED / "model_index.json").is_file()


def known_models() -> list[KnownModel]:
    """The mini model first."""
    size = sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) if bundled_is_here() else 0
    return [
        KnownModel(
            MINI,
            "(default), --model mini",
            f"any CPU; {size / 1e6:.0f} MB, in the package",
            "a documented vocabulary of edits, in seconds",
            bundled_is_here(),
        ),
        KnownModel(
            "HiDream-E1-Full",
            "--model HiDream-ai/HiDream-E1-Full",
            "62 GB of device memory in bfloat16 and some to work in; 16 GB and more with parts that take turns "
            "(--memory) or with weights in fewer bits (--quantization); 47 GB of files and Llama's 16 GB, which is "
            "licence-gated",
            "any instruction, at 768x768",
            is_cached("HiDream-ai/HiDream-E1-Full"),
        ),
        KnownModel(
            "HiDream-I1-Full + E1 adapter",
            "--model HiDream-ai/HiDream-I1-Full --adapter HiDream-E1-Full.safetensors",
            "96 GB of device memory in bfloat16 with both stages resident, less as above; Llama as above",
            "the same, with the refine stage",
            is_cached("HiDream-ai/HiDream-I1-Full"),
        ),
    ]


def bundled_edits() -> dict[str, list[str]]:
    """Families of edits that the mini model knows, each with examples; empty where it is not in the package."""
    file = BUNDLED / "vocabulary.json"
    if not file.is_file():
        return {}
    families = json.loads(file.read_text(encoding="utf-8"))["families"]
    return {family["name"]: family["examples"] for family in families if family.get("supported", True)}


def is_cached(repository: str) -> bool:
    """Whether the hub's cache on this machine has a snapshot of ``repository``."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return any((cache / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*"))
