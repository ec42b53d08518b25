"""Weights come from the files as fast as the files and the device allow, and are what the index says."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import linked
from tests.support.tiny_checkpoint import write_transformer

from hidream_edit.domain.errors import ModelFileInvalid
from hidream_edit.engine import library_parts, safetensors_files
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.safetensors_files import Read, find_weights, load_each, read_ahead, told_rate

CPU = torch.device("cpu")
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_transformer(tmp_path / "transformer", seed=1, shards=3)


def test_reading_ahead_gives_the_same_tensors_in_the_same_order(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = find_weights(shards, "diffusion_pytorch_model")
    plain = dict(load_each(headers, names=headers, device=CPU, dtype=torch.float32))
    # To "meta" every tensor goes through the thread; its numbers are looked at on the way.
    passed: dict[str, torch.Tensor] = {}

    def watched(tensors: Iterator[Read]) -> Iterator[Read]:
        for name, tensor, scale in read_ahead(tensors):
            passed[name] = tensor
            yield name, tensor, scale

    monkeypatch.setattr(safetensors_files, "read_ahead", watched)
    there = dict(load_each(headers, names=headers, device=torch.device("meta"), dtype=torch.float32))
    assert list(there) == list(passed) == list(plain)
    assert all(torch.equal(passed[name].float(), plain[name]) for name in plain)


def test_a_fault_while_reading_ahead_reaches_whoever_loads() -> None:
    def broken() -> Iterator[Read]:
        yield "first", torch.zeros(1), None
        raise OSError("the disk is gone")

    tensors = read_ahead(broken())
    assert next(tensors)[0] == "first"
    with pytest.raises(OSError, match="the disk is gone"):
        next(tensors)


def test_the_thread_ends_with_whoever_stops_reading() -> None:
    def endless() -> Iterator[Read]:
        while True:
            yield "again", torch.zeros(1), None

    tensors = read_ahead(endless())
    next(tensors)
    tensors.close()
    assert not any(thread.name == "read ahead" for thread in threading.enumerate())


def test_each_file_is_told_with_its_bytes_per_second(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_files, "TOLD_BYTES_MIN", 1)
    headers = find_weights(shards, "diffusion_pytorch_model")
    told: list[str] = []
    for _ in load_each(headers, names=headers, device=CPU, dtype=None, progress=told.append):
        pass
    assert len(told) == 3
    assert told[1].startswith("diffusion_pytorch_model-00002-of-00003.safetensors, 2 of 3: ")
    assert told[1].endswith("GB/s")
    assert told_rate(3 * 10**9, 1.5) == "3.00 GB in 1.5 s, 2.00 GB/s"


def test_encoders_are_told_with_their_bytes_per_second_too(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_parts, "TOLD_BYTES_MIN", 1)
    told: list[str] = []
    Engine.load(tiny_folder, device="cpu", progress=told.append)
    assert [line.partition(":")[0] for line in told if line.endswith("GB/s")] == [
        "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4",
    ]  # fmt: skip


def test_tensors_that_an_index_promises_in_vain_are_all_named(shards: Path) -> None:
    content = json.loads((shards / INDEX).read_text())
    content["weight_map"] |= dict.fromkeys(("ghost.b", "ghost.a"), next(iter(content["weight_map"].values())))
    (shards / INDEX).write_text(json.dumps(content))
    with pytest.raises(ModelFileInvalid, match=r"promises ghost\.a, ghost\.b"):
        find_weights(shards, "diffusion_pytorch_model")


def test_tensors_that_an_index_does_not_name_are_told_and_not_read(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((shards / INDEX).read_text())
    del content["weight_map"]["final_layer.linear.bias"]
    (shards / INDEX).write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert "final_layer.linear.bias" not in find_weights(shards, "diffusion_pytorch_model")
    assert "does not name final_layer.linear.bias" in caplog.text


def test_the_model_needs_what_an_index_forgot(shards: Path, tiny_folder: Path, tmp_path: Path) -> None:
    content = json.loads((shards / INDEX).read_text())
    del content["weight_map"]["final_layer.linear.bias"]
    (shards / INDEX).write_text(json.dumps(content))
    (tmp_path / "model").mkdir()
    folder = linked(tiny_folder, tmp_path / "model", without=("transformer",))
    (folder / "transformer").symlink_to(shards)
    with pytest.raises(ModelFileInvalid, match=r"lacks 1 tensors that the model needs: final_layer\.linear\.bias"):
        Engine.load(folder, device="cpu")
