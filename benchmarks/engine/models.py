"""The models that edits run on, each as the engine loads it and as the plain pipeline does, with the same weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from benchmarks.engine.random_model import RandomModel
from benchmarks.plain_pipeline import PlainPipeline

from hidream_edit.engine.engine import Engine
from hidream_edit.engine.known_models import BUNDLED
from hidream_edit.engine.model.config import TransformerConfig

CACHE = Path(__file__).parents[2] / "runs" / "benchmark-models"


class Model(Protocol):
    """A set of weights."""

    @property
    def config(self) -> TransformerConfig: ...

    @property
    def text_rows(self) -> int: ...

    def engine(self, device: torch.device, dtype: torch.dtype, **options: Any) -> Engine:
        """Our engine; ``options`` go to `Engine.load` where the model has a folder."""

    def plain(self, device: torch.device, dtype: torch.dtype) -> PlainPipeline:
        """The published way, the adapter unmerged where the model has one."""

    def prepare(self) -> None:
        """Build what can be kept for the next run."""


@dataclass(frozen=True, slots=True)
class BundledModel:
    """The small model in the package."""

    @property
    def config(self) -> TransformerConfig:
        return TransformerConfig.from_json(json.loads((BUNDLED / "transformer" / "config.json").read_text()))

    @property
    def text_rows(self) -> int:
        facts = json.loads((BUNDLED / "tokenizer_4" / "tokenizer_config.json").read_text())
        return int(facts["model_max_length"])

    def engine(self, device: torch.device, dtype: torch.dtype, **options: Any) -> Engine:
        return Engine.load(BUNDLED, device=str(device), dtype=_name(dtype), **options)

    def plain(self, device: torch.device, dtype: torch.dtype) -> PlainPipeline:
        return PlainPipeline(BUNDLED, dtype=dtype, device=str(device))

    def prepare(self) -> None:
        """It comes with the package."""


@dataclass(frozen=True, slots=True)
class FolderModel:
    """Random weights in a folder, with an adapter."""

    random: RandomModel
    text_rows: int = 128

    @property
    def config(self) -> TransformerConfig:
        return self.random.transformer

    def engine(self, device: torch.device, dtype: torch.dtype, **options: Any) -> Engine:
        folder = self.random.folder(CACHE)
        return Engine.load(
            folder, adapter=self.random.adapter_of(folder), device=str(device), dtype=_name(dtype), **options
        )

    def plain(self, device: torch.device, dtype: torch.dtype) -> PlainPipeline:
        folder = self.random.folder(CACHE)
        return PlainPipeline(folder, adapter=self.random.adapter_of(folder), dtype=dtype, device=str(device))

    def prepare(self) -> None:
        self.random.folder(CACHE)


def facts_of(config: TransformerConfig) -> dict[str, Any]:
    """A configuration as the library's class takes it."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
