"""How much memory a model needs, from the headers of its files."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch

from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.adapter import adapted_weight
from hidream_edit.engine.as_stored import kept_as_stored, widening_bytes
from hidream_edit.engine.checked_model import CheckedModel, CheckedTransformers, Component
from hidream_edit.engine.folders import read_json
from hidream_edit.engine.memory.activations import TextSizes, text_bytes
from hidream_edit.engine.memory.packing import Packing, packed_in_transformer
from hidream_edit.engine.memory.sizes import (
    AutoencoderNeeds,
    Encoder,
    ModelSizes,
    Part,
    autoencoder_needs,
    needs_of_steps,
    part_of,
)
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.safetensors_files import TensorHeader
from hidream_edit.engine.text_encoders import TEXT_ROWS


def sizes_of_model(
    found: CheckedModel, dtype: torch.dtype, quantization: Quantization, *, measures: Measures
) -> ModelSizes:
    """Everything that has to find room, computed with in ``dtype``."""
    item = dtype.itemsize
    config = read_json(found.autoencoder.folder / "config.json")
    widths = config.get("block_out_channels") or config["decoder_block_out_channels"]
    halvings = len(widths) - 1
    autoencoder = autoencoder_needs(
        sum(header.element_count for header in found.autoencoder.headers.values()) * item,
        channels=max(widths[:2]),  # the second widens the first at full size
        side=found.config.max_resolution[0] * 2**halvings,
        item=item,
    )
    encoders = tuple(_encoder(part, quantization, item) for part in found.encoders)
    return _sizes(found.card.name, found, encoders, autoencoder, quantization, dtype, measures)


def sizes_of_transformers(
    name: str, found: CheckedTransformers, dtype: torch.dtype, quantization: Quantization, *, measures: Measures
) -> ModelSizes:
    """The same for a process that has no other parts; it keeps no embeddings either."""
    nothing = AutoencoderNeeds(0, 0, 0, 0, 0)
    return _sizes(name, found, (), nothing, quantization, dtype, measures)


def _sizes(
    name: str,
    found: CheckedTransformers,
    encoders: tuple[Encoder, ...],
    autoencoder: AutoencoderNeeds,
    quantization: Quantization,
    dtype: torch.dtype,
    measures: Measures,
) -> ModelSizes:
    shapes, item = found.shapes, dtype.itemsize
    stored = kept_as_stored(found, dtype, measures)
    packing = Packing(quantization, packed_in_transformer(shapes), item)
    needed = {one: packing.bytes_of(one, shape) for one, shape in shapes.items()}
    refining = needed | {one: prod(shapes[one]) * narrow.itemsize for one, narrow in stored.items()}
    layers = max(found.config.llama_layers) + 1
    step, texts, cached = needs_of_steps(found.config, llama_layers=layers, item=item, grouped=measures.grouped)
    return ModelSizes(
        name,
        encoders,
        tuple(_transformer_parts(found, needed, refining)),
        autoencoder,
        step + packing.unpacking(shapes) + widening_bytes(stored, shapes, measures, item=item),
        texts,
        cached if encoders else 0,
        quantization,
    )


def _encoder(part: Component, quantization: Quantization, item: int) -> Encoder:
    shapes = _shapes(part.headers)
    packing = Packing(quantization, part.linear & shapes.keys(), item)
    return Encoder(
        part_of(part.name, {name: packing.bytes_of(name, shape) for name, shape in shapes.items()}),
        text_bytes(_text_sizes(part.folder), rows=TEXT_ROWS, item=item) + packing.unpacking(shapes),
        sum(header.element_count for header in part.headers.values()) * item,
    )


def _transformer_parts(
    found: CheckedTransformers, needed: Mapping[str, int], refining: Mapping[str, int]
) -> list[Part]:
    parts = [part_of("transformer", needed)]
    if found.base is not None:
        parts.append(part_of("transformer of the refine stage", refining))
    elif found.adapter is not None:
        # The refine stage shares what the adapter leaves alone, as long as it is on the device.
        adapted = frozenset(adapted_weight(name) for name in found.adapter)
        parts.append(part_of("transformer of the refine stage", refining, own=adapted))
    return parts


def _shapes(headers: Mapping[str, TensorHeader]) -> dict[str, tuple[int, ...]]:
    return {name: header.shape for name, header in headers.items()}


def _text_sizes(folder: Path) -> TextSizes:
    """Of a CLIP, a T5 or a Llama, each of which has names of its own."""
    config = read_json(folder / "config.json")
    if "d_model" in config:
        return TextSizes(config["num_layers"], config["d_model"], config["d_ff"], config["num_heads"])
    return TextSizes(
        config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    )
