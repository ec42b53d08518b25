"""Weights on disk: what is there, read from the headers alone, and loaded only after it was checked.

Only safetensors files are ever opened. They hold numbers and JSON; a pickled checkpoint could run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from hidream_edit.domain.errors import ModelFileInvalid, ModelFileMissing

logger = logging.getLogger(__name__)

HEADER_BYTES_MAX = 100_000_000
READ_AHEAD_COUNT = 4  # tensors that wait in memory while others are copied to the device
TOLD_BYTES_MIN = 2**28  # of a file whose loading is worth a line
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SAMPLE_BYTES = 4096
SCALE = ".scale"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file, as its header announces it."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def element_count(self) -> int:
        return prod(self.shape)


def read_header(file: Path) -> dict[str, TensorHeader]:
    """Names, dtypes and shapes in ``file``; nothing else is read.

    Raises:
        ModelFileMissing: there is no such file.
        ModelFileInvalid: cut short, or not a safetensors file.
    """
    if not file.is_file():
        raise ModelFileMissing(f"{file} is missing")
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(HEADER_BYTES_MAX, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        tensors = {
            name: TensorHeader(file, DTYPES[entry["dtype"]], tuple(entry["shape"])) for name, entry in header.items()
        }
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelFileInvalid(f"{file} is not a safetensors file: {problem}") from problem
    if size != 8 + length + end:
        raise ModelFileInvalid(f"{file} has {size} bytes instead of {8 + length + end}; copy or download it again")
    return tensors


def find_weights(folder: Path, stem: str) -> dict[str, TensorHeader]:
    """Headers of ``stem.safetensors``, or of every shard that ``stem.safetensors.index.json`` names.

    Raises:
        ModelFileMissing: no such file, or a shard is not there.
        ModelFileInvalid: index and shards contradict each other.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return read_header(single)
    if not index.is_file():
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
        hint = f" ({pickled[0].name} is not opened: only safetensors files are)" if pickled else ""
        raise ModelFileMissing(f"{single} is missing{hint}")
    try:
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        shards = {name: read_header(folder / name) for name in sorted(set(weight_map.values()))}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelFileInvalid(f"{index} is not a weight index: {problem}") from problem
    broken = sorted(name for name, shard in weight_map.items() if name not in shards[shard])
    if broken:
        raise ModelFileInvalid(f"{index} promises {_few(broken)}, which the shards do not hold")
    unnamed = sorted(name for shard in shards.values() for name in shard if name not in weight_map)
    if unnamed:
        logger.warning("%s does not name %s, which the shards hold: not read", index, _few(unnamed))
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def check_against(
    found: Mapping[str, TensorHeader],
    needed: Mapping[str, tuple[int, ...]],
    *,
    where: Path,
    optional: frozenset[str] = frozenset(),
) -> None:
    """Every tensor that the model needs is there, in its shape.

    Raises:
        ModelFileInvalid: names the first few that are not.
    """
    missing = sorted(name for name in needed if name not in found and name not in optional)
    if missing:
        raise ModelFileInvalid(f"{where} lacks {len(missing)} tensors that the model needs: {_few(missing)}")
    unscaled = sorted(
        name for name in needed if name in found and found[name].dtype is torch.int8 and name + SCALE not in found
    )
    if unscaled:
        raise ModelFileInvalid(f"{where} stores {_few(unscaled)} in 8 bits without a scale")
    wrong = [
        f"{name} is {list(found[name].shape)}, not {list(shape)}"
        for name, shape in needed.items()
        if name in found and found[name].shape != shape
    ]
    if wrong:
        raise ModelFileInvalid(f"{where} holds tensors of other shapes: {_few(wrong)}")


def load_each(
    headers: Mapping[str, TensorHeader],
    *,
    names: Iterable[str],
    device: torch.device,
    dtype: torch.dtype | None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[str, Tensor]]:
    """Tensors one by one, file by file, so that no second copy of a shard is ever held.

    A matrix may be stored in 8 bits beside one scale per row, ``<name>.scale``; it is widened here. Files are mapped;
    for a device with memory of its own, a thread reads ahead from the disk while tensors are copied to it.
    """
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(headers[name].file, []).append(name)
    for number, (file, inside) in enumerate(by_file.items(), start=1):
        began, count = time.monotonic(), 0
        tensors = _mapped(file, inside)
        for name, tensor, scale in tensors if device.type == "cpu" else read_ahead(tensors):
            count += tensor.nbytes
            there = tensor.to(device)
            if scale is not None:
                there = there.float() * scale.to(device).float()
            yield name, there.to(dtype)
        if count >= TOLD_BYTES_MIN:
            progress(f"{file.name}, {number} of {len(by_file)}: {told_rate(count, time.monotonic() - began)}")


Read = tuple[str, Tensor, Tensor | None]  # name, numbers, and the scale of those in 8 bits


def _mapped(file: Path, names: Iterable[str]) -> Iterator[Read]:
    with safe_open(file, framework="pt", device="cpu") as opened:
        for name in names:
            tensor = opened.get_tensor(name)
            yield name, tensor, opened.get_tensor(name + SCALE) if tensor.dtype is torch.int8 else None


def read_ahead(tensors: Iterator[Read]) -> Iterator[Read]:
    """The same tensors, read by a thread while the caller does something else with those before."""
    waiting: queue.Queue[Read | BaseException | None] = queue.Queue(READ_AHEAD_COUNT)
    stopped = threading.Event()

    def put(item: Read | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            for name, tensor, scale in tensors:
                if stopped.is_set():
                    return
                put((name, tensor.clone(), scale))  # a mapped tensor is read from the disk when it is touched
            put(None)
        except BaseException as fault:  # noqa: BLE001 - raised again where the tensors are wanted
            put(fault)

    reader = threading.Thread(target=read, name="read ahead", daemon=True)
    reader.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        reader.join()


def told_rate(count: int, seconds: float) -> str:
    """Bytes and bytes per second, for a person."""
    return f"{count / 1e9:.2f} GB in {seconds:.1f} s, {count / 1e9 / max(seconds, 1e-3):.2f} GB/s"


def fingerprint_of(files: Iterator[Path]) -> str:
    """A short hash that tells checkpoints apart: sizes, headers, and a sample of the numbers of each file."""
    digest = hashlib.sha256()
    for file in sorted(files):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for part in range(8):
                stream.seek(part * size // 8)
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _few(items: list[str], count: int = 3) -> str:
    return ", ".join(items[:count]) + (f" and {len(items) - count} more" if len(items) > count else "")
