"""Which device and precision, and whether the weights fit."""

from __future__ import annotations

import pytest
import torch

from hidream_edit.domain.errors import DeviceUnavailable, MemoryTooSmall
from hidream_edit.engine import devices


def test_without_a_gpu_it_is_the_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device = devices.choose_device(None)
    assert (device.type, devices.choose_dtype(None, device)) == ("cpu", torch.float32)


def test_with_a_gpu_it_is_the_gpu_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = devices.choose_device("auto")
    assert (device.type, devices.choose_dtype("auto", device)) == ("cuda", torch.bfloat16)


@pytest.mark.parametrize("name", ["cuda:7", "tpu", "nonsense:1", "meta"])
def test_a_device_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceUnavailable, match=name):
        devices.choose_device(name)


def test_an_unknown_precision_says_which_there_are() -> None:
    with pytest.raises(DeviceUnavailable, match="float32, bfloat16, float16"):
        devices.choose_dtype("int4", torch.device("cpu"))


def test_weights_that_do_not_fit_are_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _: 8 * 2**30)
    devices.check_memory(7 * 2**30, torch.device("cpu"))
    with pytest.raises(MemoryTooSmall, match=r"need 62\.0 GiB on cpu, 8\.0 GiB are free"):
        devices.check_memory(62 * 2**30, torch.device("cpu"))
