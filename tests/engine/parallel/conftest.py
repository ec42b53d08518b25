"""The tiny model with heads to share, and a look at processes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import linked, short_edit
from tests.support.tiny_checkpoint import TRANSFORMER, write_json

from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine


@pytest.fixture(scope="session")
def four_heads(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, whose width is cut into four heads: two and four ranks share them, three cannot."""
    folder = linked(tiny_folder, tmp_path_factory.mktemp("heads"), without=("transformer",))
    (folder / "transformer").mkdir()
    for file in (tiny_folder / "transformer").glob("*.safetensors"):
        (folder / "transformer" / file.name).symlink_to(file)
    heads = {"num_attention_heads": 4, "attention_head_dim": 8, "axes_dims_rope": [4, 2, 2]}
    write_json(folder / "transformer" / "config.json", TRANSFORMER | heads)
    return folder


def run(engine: Engine, picture: Picture, **fields: object) -> torch.Tensor:
    *_, state = engine.steps(engine.begin(picture, engine.settle(short_edit(**fields))))
    return state.solver.latents


def ranks_of(engine: Engine) -> list[int]:
    """Process ids of the ranks other than 0."""
    assert engine._group is not None
    return [child._process.pid for child in engine._group._children if child._process is not None]


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(processes: list[int], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while any(map(lives, processes)):
        assert time.monotonic() < deadline, processes
        time.sleep(0.05)
