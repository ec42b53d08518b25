"""Weights on disk: what is there, read from the headers alone, and loaded only after it was checked.

Only safetensors files are ever opened. They hold numbers and JSON; a pickled checkpoint could run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from hidream_edit.domain.errors import ModelFileInvalid, ModelFileMissing

HEADER_BYTES_MAX = 100_000_000
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
    try:
        return {name: shards[shard][name] for name, shard in weight_map.items()}
    except KeyError as missing:
        raise ModelFileInvalid(f"{index} promises {missing}, its shard does not hold it") from missing


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
    headers: Mapping[str, TensorHeader], *, names: Iterable[str], device: torch.device, dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    """Tensors one by one, file by file, so that no second copy of a shard is ever held.

    A matrix may be stored in 8 bits beside one scale per row, ``<name>.scale``; it is widened here.
    """
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(headers[name].file, []).append(name)
    for file, inside in by_file.items():
        with safe_open(file, framework="pt", device=str(device)) as opened:
            for name in inside:
                tensor = opened.get_tensor(name)
                if tensor.dtype is torch.int8:
                    tensor = tensor.float() * opened.get_tensor(name + SCALE).float()
                yield name, tensor.to(dtype)


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
