"""Runners of one machine share its cores."""

from __future__ import annotations

import pytest

from hidream_edit.wiring import threads
from hidream_edit.wiring.threads import threads_of_runner


@pytest.fixture
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("_eight_cores")
@pytest.mark.parametrize(("runners", "each"), [(2, "4"), (3, "2"), (20, "1")])
def test_each_of_several_runners_gets_its_share(runners: int, each: str) -> None:
    assert threads_of_runner(runners, {})["OMP_NUM_THREADS"] == each


@pytest.mark.usefixtures("_eight_cores")
def test_a_single_runner_takes_what_torch_takes() -> None:
    assert threads_of_runner(1, {}) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.usefixtures("_eight_cores")
def test_what_the_owner_has_set_stays() -> None:
    assert threads_of_runner(2, {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}) == {}
