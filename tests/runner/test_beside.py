"""Work beside the edits, of which only the newest matters."""

from __future__ import annotations

import threading

import pytest

from hidream_edit.runner.beside import Beside


def test_whoever_is_behind_leaves_out_what_is_old() -> None:
    beside, is_busy, may_go_on, is_done = Beside("t"), threading.Event(), threading.Event(), threading.Event()
    seen: list[str] = []

    def first() -> None:
        is_busy.set()
        may_go_on.wait(10)
        seen.append("first")

    def newest() -> None:
        seen.append("newest")
        is_done.set()

    beside.give(first)
    assert is_busy.wait(10)
    beside.give(lambda: seen.append("old"))
    beside.give(newest)
    may_go_on.set()
    assert is_done.wait(10)
    beside.close()
    assert seen == ["first", "newest"]


def test_work_that_fails_ends_nothing_but_itself(caplog: pytest.LogCaptureFixture) -> None:
    beside, is_done = Beside("t"), threading.Event()
    has_failed = threading.Event()

    def fail() -> None:
        has_failed.set()
        raise ValueError("no")

    beside.give(fail)
    assert has_failed.wait(10)
    beside.give(is_done.set)
    assert is_done.wait(10)
    beside.close()
    assert "work of the thread t failed" in caplog.text


def test_after_its_end_nothing_is_begun() -> None:
    beside = Beside("t")
    beside.close()
    beside.give(lambda: pytest.fail("it was closed"))
    beside.close()
