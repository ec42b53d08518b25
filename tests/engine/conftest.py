"""A tiny random model for the engine's tests, and the recorded runs where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.support.tiny_checkpoint import EULER, write_adapter, write_json, write_transformer

from hidream_edit.domain.edit import EditInput, Fit
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "adapter.safetensors")


@pytest.fixture(scope="session")
def tiny_engine(tiny_folder: Path) -> Engine:
    return Engine.load(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def adapted_engine(tiny_folder: Path, tiny_adapter: Path) -> Engine:
    return Engine.load(tiny_folder, adapter=tiny_adapter, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def euler_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = linked(tiny_folder, tmp_path_factory.mktemp("euler"), without=("scheduler",))
    write_json(folder / "scheduler" / "scheduler_config.json", EULER)
    return folder


@pytest.fixture(scope="session")
def other_transformer(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights in its transformer."""
    folder = linked(tiny_folder, tmp_path_factory.mktemp("other"), without=("transformer",))
    write_transformer(folder / "transformer", seed=99)
    return folder


@pytest.fixture
def picture() -> Picture:
    return random_picture(64, 64)


def linked(folder: Path, target: Path, *, without: tuple[str, ...]) -> Path:
    """``target`` with links to everything in ``folder`` but ``without``."""
    for part in folder.iterdir():
        if part.name not in without:
            (target / part.name).symlink_to(part)
    return target


def random_picture(width: int, height: int, *, seed: int = 0, alpha: bool = False) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Picture(width, height, pixels[..., :3].tobytes(), pixels[..., 3].tobytes() if alpha else None)


def short_edit(**fields: Any) -> EditInput:
    """Two steps of a request; ``fields`` override."""
    return EditInput(**({"edit_instruction": "make it night", "num_inference_steps": 2, "seed": 3} | fields))


@dataclass(frozen=True)
class GoldenCase:
    """One recorded run of the published pipeline."""

    name: str
    folder: Path
    settings: dict[str, Any]

    @property
    def is_adapted(self) -> bool:
        return "transformer_i1" in self.settings["weights"]

    def tensors(self, file: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / f"{file}.safetensors")

    def source(self) -> Picture:
        image = Image.open(self.folder / "input.png")
        return Picture(*image.size, image.tobytes())

    def edit_input(self) -> EditInput:
        recorded = self.settings
        return EditInput(
            # A composed prompt is taken as it is.
            edit_instruction=recorded["prompt"],
            negative_prompt=recorded["negative_prompt"] or "",
            num_inference_steps=recorded["num_inference_steps"],
            seed=recorded["seed"],
            guidance_scale=recorded["guidance_scale"],
            image_guidance_scale=recorded["image_guidance_scale"],
            num_images=recorded["num_images"],
            refine_strength=recorded["refine_strength"] or 0.0,
            normed_guidance=recorded["clip_cfg_norm"],
            fit=Fit.NATIVE,
        )

    def engine(
        self, target: Path, *, dtype: str = "float32", devices: tuple[str, ...] = ("cpu",), **options: Any
    ) -> Engine:
        """The engine with the weights and the sampler that the case names."""
        checkpoint = GOLDEN / "checkpoint"
        if not target.exists():
            target.mkdir(parents=True)
            linked(checkpoint, target, without=("transformer", "transformer_i1", "scheduler", "scheduler_flowmatch"))
            (target / "scheduler").symlink_to(GOLDEN / self.settings["scheduler"])
            (target / "transformer").symlink_to(checkpoint / ("transformer_i1" if self.is_adapted else "transformer"))
        return Engine.load(
            target,
            adapter=checkpoint / "HiDream-E1-Full.safetensors" if self.is_adapted else None,
            refine_patch_embedder=self.settings["refine_x_embedder"] or "e1",
            devices=devices,
            dtype=dtype,
            **options,
        )


def golden_cases() -> list[GoldenCase]:
    """All recorded runs, none where the folder is not there."""
    return [
        GoldenCase(folder.name, folder, json.loads((folder / "settings.json").read_text()))
        for folder in sorted(GOLDEN.glob("c[0-9]*"))
    ]


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())
