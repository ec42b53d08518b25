"""What more than one folder of tests needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.describer_server import FakeServer, describer_server

# Before any library reads them: no hub, and no helper threads that outlive a test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole random model: 64x64 pixels, UniPC."""
    from tests.support.tiny_checkpoint import write_checkpoint  # brings torch

    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def fake_describer() -> Iterator[FakeServer]:
    with describer_server() as fake:
        yield fake
