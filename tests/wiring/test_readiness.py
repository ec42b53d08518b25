"""What the API says of its runners, by what they say of themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from hidream_edit.domain.edit import EditDefaults, Fit
from hidream_edit.domain.interfaces import RunnerFacts, RunnerState
from hidream_edit.domain.quality import Quality
from hidream_edit.testing.memory_store import MemoryStore
from hidream_edit.wiring.readiness import ReadinessOf


class Parts(NamedTuple):
    store: MemoryStore


class Children(NamedTuple):
    is_alive: bool


def readiness(
    *states: RunnerState, children: Children | None = None, defaults: Mapping[str, Any] | None = None
) -> ReadinessOf:
    store = MemoryStore()
    for number, state in enumerate(states):
        store.announce(
            RunnerFacts(f"r{number}", state, "mini", time.time(), defaults or {}, "cpu", f"checker {number}")
        )
    return ReadinessOf(Parts(store), children, asyncio.Event())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "children", "word"),
    [
        ([], None, "no runner"),
        ([], Children(is_alive=True), "loading"),
        ([RunnerState.READY], Children(is_alive=False), "runner dead"),
        ([RunnerState.LOADING], None, "loading"),
        ([RunnerState.LOADING, RunnerState.WARMING], None, "warming"),
        ([RunnerState.WARMING, RunnerState.READY], None, "ready"),
        ([RunnerState.DRAINING], None, "no runner"),
    ],
)
def test_the_furthest_runner_decides_unless_our_own_has_died(
    states: list[RunnerState], children: Children | None, word: str
) -> None:
    told = readiness(*states, children=children)()
    assert (told.word, told.is_ready) == (word, word == "ready")


def test_who_is_ready_is_told_with_its_device_and_checker() -> None:
    ready = readiness(RunnerState.LOADING, RunnerState.READY)
    assert ready.engine() == ("mini on cpu", "checker 1")
    assert ready().safety == "checker 1"
    assert readiness(RunnerState.LOADING).engine() is None


def test_defaults_are_those_of_the_loaded_model_and_the_hosted_ones_without_a_runner() -> None:
    told = {"num_inference_steps": 9, "fit": "pad", "quality": "turbo"}
    assert readiness(RunnerState.READY, defaults=told).defaults() == EditDefaults(
        num_inference_steps=9, fit=Fit.PAD, quality=Quality.TURBO
    )
    assert readiness().defaults() == EditDefaults()


def test_defaults_that_a_runner_of_a_newer_version_tells_beside_them_are_passed_over() -> None:
    told = {"fit": "squeeze", "num_images": 2, "of_tomorrow": True}
    assert readiness(RunnerState.READY, defaults=told).defaults() == EditDefaults(num_images=2)
