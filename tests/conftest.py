"""What more than one folder of tests needs."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.describer_server import FakeServer, describer_server

# Before any library reads them: no hub, and no helper threads that outlive a test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


# Files that take longest begin first, so that no process ends long after the others: `make test` runs a file in each.
LONGEST = (
    "test_random_histories.py",
    "test_mini_model.py",
    "test_whole_run.py",
    "test_durability.py",
    "test_guides.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        order = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.path.name, len(order)))


# Keys as clients send them, and addresses that carry a secret.
SECRET = re.compile(
    r"[0-9a-f]{16}:[A-Za-z0-9_-]{40}|[?&](token|fal_jwt_token|secret)=[^&\s]|(Bearer|Key) [0-9A-Za-z]{8}"
)


class Leaks(logging.Handler):
    """Keeps every line of every log that holds a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if SECRET.search(line := self.format(record)):
            self.found.append(line)


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_any_log() -> Iterator[Leaks]:
    """Over all tests: what this package logs, down to the finest level, holds no key and no signed address."""
    leaks = Leaks()
    logging.getLogger().addHandler(leaks)
    logging.getLogger("hidream_edit").setLevel(logging.DEBUG)
    yield leaks
    logging.getLogger().removeHandler(leaks)
    assert leaks.found == []


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole random model: 64x64 pixels, UniPC."""
    from tests.support.tiny_checkpoint import write_checkpoint  # brings torch

    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def fake_describer() -> Iterator[FakeServer]:
    with describer_server() as fake:
        yield fake
