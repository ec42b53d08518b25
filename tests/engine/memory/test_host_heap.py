"""What is freed goes back to the system, where the C library can be asked to."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import pytest
from tests.engine.conftest import random_picture, short_edit

from hidream_edit.engine import loading
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.memory import host_heap

PIECE, COUNT = 64 * 1024, 2000  # so small that the C library takes them from its heap


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library cannot be asked")
def test_holes_between_what_lives_on_are_given_back() -> None:
    pieces = [bytearray(PIECE) for _ in range(COUNT)]
    del pieces[:-1]  # the last one holds the heap up
    before = psutil.Process().memory_info().rss
    host_heap.give_back()
    given = before - psutil.Process().memory_info().rss
    assert given > PIECE * COUNT // 2


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    host_heap._trim.cache_clear()
    try:
        host_heap.give_back()
        assert host_heap._trim() is None
    finally:
        host_heap._trim.cache_clear()


@pytest.mark.parametrize(("worth", "times"), [(1, 2), (2**40, 1)], ids=["large", "small"])
def test_loading_gives_back_and_so_does_an_edit_that_has_much_to_decode(
    worth: int, times: int, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    for module in (host_heap, loading):
        monkeypatch.setattr(module, "give_back", lambda: asked.append(None))
    monkeypatch.setattr(host_heap, "WORTH_BYTES", worth)
    engine = Engine.load(tiny_folder, device="cpu", dtype="float32")
    assert len(asked) == 1
    state = engine.begin(random_picture(64, 64), engine.settle(short_edit(num_inference_steps=2)))
    state = engine.advance(state)
    assert len(asked) == 1, "only before decoding"
    engine.advance(state)
    assert len(asked) == times
