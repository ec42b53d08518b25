"""The parts that libraries build: tokenizers, text encoders, the autoencoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hidream_edit.domain.errors import ModelFileInvalid
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.checked_model import VAE, Component
from hidream_edit.engine.folders import ModelFolder, llama_folders
from hidream_edit.engine.quality.quantized import quantize
from hidream_edit.engine.quiet_libraries import quiet_libraries
from hidream_edit.engine.safetensors_files import TOLD_BYTES_MIN, told_rate
from hidream_edit.engine.text_encoders import TEXT_ROWS, Tokenizers

Progress = Callable[[str], None]
CPU = torch.device("cpu")


def load_tokenizers(folder: ModelFolder, text_encoder_4: str | Path | None) -> Tokenizers:
    """The four of a model folder.

    Raises:
        ModelFileInvalid: one cannot be read.
    """
    from transformers import AutoTokenizer

    def load(where: Path) -> Any:
        try:
            return AutoTokenizer.from_pretrained(where, local_files_only=True)
        except (OSError, ValueError, KeyError) as problem:
            raise ModelFileInvalid(f"{where} does not hold a tokenizer: {problem}") from problem

    clip_l, clip_g, t5 = (load(folder.component(name)) for name in ("tokenizer", "tokenizer_2", "tokenizer_3"))
    llama = load(llama_folders(folder, text_encoder_4)[1])
    # Upstream sets this on the caller's object; here the tokenizer is our own.
    llama.pad_token = llama.eos_token
    llama.padding_side = "right"
    rows = min(TEXT_ROWS, *(tokenizer.model_max_length for tokenizer in (clip_l, clip_g, t5, llama)))
    return Tokenizers(clip_l, clip_g, t5, llama, rows)


def build(part: Component, device: torch.device, dtype: torch.dtype) -> Any:
    """One part on a device, as its library reads it."""
    key = "torch_dtype" if part.name == VAE else "dtype"
    with quiet_libraries():
        model = part.library_class.from_pretrained(
            part.folder, use_safetensors=True, local_files_only=True, **{key: dtype}
        )
    return model.to(device).eval().requires_grad_(False)


def encoder_reader(
    part: Component,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization,
    progress: Progress,
) -> Callable[[torch.device], Any]:
    """Reads one text encoder to where it is asked for; ``device`` is the one that computes."""

    def read(where: torch.device) -> Any:
        began = time.monotonic()
        if quantization is Quantization.NONE:
            built = build(part, where, dtype)
        else:
            built = build(part, CPU, dtype)
            # On the device wherever the codes are kept, so that every plan computes with the same numbers.
            quantize(built, part.linear, quantization, on=device)
            built.to(where)
        count = sum(header.element_count for header in part.headers.values()) * dtype.itemsize
        if count >= TOLD_BYTES_MIN:
            progress(f"{part.name}: {told_rate(count, time.monotonic() - began)}")
        return built

    return read
