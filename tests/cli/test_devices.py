"""Which devices the runners of a server get."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from hidream_edit.domain.errors import InputInvalid
from hidream_edit.runner.supervisor import Supervisor, Supervisors
from hidream_edit.settings import ModelSettings, ServerSettings
from hidream_edit.wiring import devices as module
from hidream_edit.wiring.devices import devices_of_runners, named_devices
from hidream_edit.wiring.serve import runner_commands

FOUR = "cuda:0,cuda:1,cuda:2,cuda:3"


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(module, "count_cuda_devices", lambda: count)


@pytest.mark.parametrize("count", [0, 1])
def test_one_runner_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with_gpus(monkeypatch, count)
    assert devices_of_runners(ModelSettings(), 1) == [()]


def test_each_visible_gpu_gets_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 3)
    assert devices_of_runners(ModelSettings(), 1) == [("cuda:0",), ("cuda:1",), ("cuda:2",)]
    assert devices_of_runners(ModelSettings(), 3) == [("cuda:0", "cuda:1", "cuda:2")]


def test_the_engine_without_weights_and_a_named_device_get_one_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 3)
    assert devices_of_runners(ModelSettings(model="null"), 1) == [()]
    assert devices_of_runners(ModelSettings(device="cuda:1"), 1) == [()]


def test_named_devices_are_shared_out() -> None:
    models = ModelSettings(devices=" cuda:0, cuda:1,cuda:2 ,cuda:3")
    assert named_devices(models) == tuple(FOUR.split(","))
    assert devices_of_runners(models, 2) == [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")]


@pytest.mark.parametrize(
    ("models", "per_edit"),
    [
        ({"devices": FOUR}, 3),
        ({"devices": FOUR, "device": "cuda:0"}, 1),
        ({"device": "cuda:0"}, 2),
        ({}, 2),
    ],
)
def test_what_does_not_come_out_even_is_refused(
    monkeypatch: pytest.MonkeyPatch, models: dict[str, str], per_edit: int
) -> None:
    with_gpus(monkeypatch, 0)
    with pytest.raises(InputInvalid):
        devices_of_runners(ModelSettings(**models), per_edit)


def test_each_runner_is_started_with_its_devices(tmp_path: Path) -> None:
    settings = ServerSettings(data=str(tmp_path))
    commands = runner_commands(settings, ["--model", "null"], [("cuda:0", "cuda:1"), ()])
    assert [command[-2:] for command in commands] == [["--devices", "cuda:0,cuda:1"], ["--model", "null"]]


def test_gpus_are_counted_without_torch() -> None:
    code = "import sys, hidream_edit.wiring.devices as d; print(d.count_cuda_devices(), 'torch' in sys.modules)"
    counted, brought_torch = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert int(counted) >= 0
    assert brought_torch == "False"


def test_several_children_are_told_and_ended_together() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    both = Supervisors(Supervisor(command) for _ in range(2))
    both.start()
    while not both.is_alive:
        pass
    both.drain()
    assert both.wait(20)
    assert not both.is_alive
    both.kill()


@pytest.mark.parametrize(("says", "counted"), [("print(3)", 3), ("raise SystemExit(1)", 0)])
def test_gpus_are_counted_by_torch_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, says: str, counted: int
) -> None:
    monkeypatch.setattr(module, "version", lambda _: "2.13.0")
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: None)
    monkeypatch.setattr(module, "COUNT_CUDA_DEVICES", says)
    assert module.count_cuda_devices() == counted


def test_without_torch_or_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(module, "version", lambda _: "2.13.0")
    monkeypatch.setattr(module.ctypes, "CDLL", missing)
    assert module.count_cuda_devices() == 0

    def not_installed(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", not_installed)
    assert module.count_cuda_devices() == 0
