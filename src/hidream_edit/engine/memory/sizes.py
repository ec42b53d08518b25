"""How large the parts of a model are, in bytes; numbers only, no tensors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.memory.activations import (
    TextSizes,
    autoencoder_bytes,
    embeddings_bytes,
    step_bytes,
    text_bytes,
    tokens_bytes,
)
from hidream_edit.engine.memory.packing import Packing, packed_in_transformer
from hidream_edit.engine.model.config import TransformerConfig, feed_forward_width

NUMBERED = re.compile(r"^(.*?)\.(\d+)\.")
BRANCHES_MAX = 3
TEXT_ROWS = 128
STEPS_SHOWN = 50  # the hosted page's default, for costs per edit


@dataclass(frozen=True, slots=True)
class Part:
    """Weights that a device may hold as a whole, or block by block.

    ``own_rest`` and ``own_blocks`` are what this part takes where the parts before it are on the device too, with which
    it may share weights.
    """

    name: str
    rest: int  # bytes outside of blocks
    blocks: tuple[int, ...]  # bytes of each block, in the order of use
    own_rest: int
    own_blocks: tuple[int, ...]

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return self.rest + sum(self.blocks)

    @property
    def own_weights(self) -> int:
        """Bytes of the weights that no other part has."""
        return self.own_rest + sum(self.own_blocks)

    @property
    def largest_block(self) -> int:
        return max(self.blocks, default=0)


@dataclass(frozen=True, slots=True)
class Encoder:
    """A text encoder, and what it needs beside its weights while it reads."""

    part: Part
    working: int
    unpacked: int  # bytes of all weights as the library reads them, before they are packed

    @property
    def packed_later(self) -> int:
        """How many of these go once it is packed."""
        return self.unpacked - self.part.weights


@dataclass(frozen=True, slots=True)
class AutoencoderNeeds:
    """Weights, and what encoding and decoding need beside them, whole and in tiles."""

    weights: int
    encode: int
    decode: int
    tile_encode: int
    tile_decode: int


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Everything that a plan has to find room for."""

    name: str
    encoders: tuple[Encoder, ...]
    transformers: tuple[Part, ...]  # of the edit stage, and of the refine stage where there is one
    autoencoder: AutoencoderNeeds
    step: int  # beside the weights, in one denoising step with all branches
    texts: int  # projected text of the stages that are kept
    cached: int  # embeddings of the last texts, which are kept beside the encoders
    quantization: Quantization = Quantization.NONE

    @property
    def weights(self) -> int:
        """Bytes with everything on one device."""
        return (
            sum(encoder.part.weights for encoder in self.encoders)
            + sum(part.own_weights for part in self.transformers)
            + self.autoencoder.weights
        )


def part_of(name: str, tensors: Mapping[str, int], *, own: frozenset[str] | None = None) -> Part:
    """A part made of ``tensors``, bytes by name. Blocks are the numbered group that weighs most, and for the
    transformer both kinds of blocks; ``own`` names what is not shared."""
    groups: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for tensor in tensors:
        if found := NUMBERED.match(tensor):
            groups[found[1]][int(found[2])].append(tensor)
    if "double_stream_blocks" in groups or "single_stream_blocks" in groups:
        chosen = ["double_stream_blocks", "single_stream_blocks"]
    else:
        chosen = sorted(groups, key=lambda group: -_bytes(tensors, groups[group]))[:1]
    blocks = [groups[group][index] for group in chosen if group in groups for index in sorted(groups[group])]
    in_blocks = {tensor for block in blocks for tensor in block}
    kept = frozenset(tensors) if own is None else own

    def weigh(names: list[str], among: frozenset[str]) -> int:
        return sum(tensors[one] for one in names if one in among)

    rest, every = [one for one in tensors if one not in in_blocks], frozenset(tensors)
    return Part(
        name,
        weigh(rest, every),
        tuple(weigh(block, every) for block in blocks),
        weigh(rest, kept),
        tuple(weigh(block, kept) for block in blocks),
    )


def _bytes(tensors: Mapping[str, int], group: Mapping[int, list[str]]) -> int:
    return sum(tensors[name] for names in group.values() for name in names)


def needs_of_steps(
    config: TransformerConfig, *, llama_layers: int, item: int, grouped: bool, rows: int = TEXT_ROWS
) -> tuple[int, int, int]:
    """Bytes beside the weights in one step on the largest canvas, of the texts of the stages that are kept, and of the
    embeddings that are kept."""
    tokens = config.max_tokens
    return (
        step_bytes(config, branches=BRANCHES_MAX, image_tokens=tokens, rows=rows, item=item, grouped=grouped),
        tokens_bytes(config, branches=BRANCHES_MAX, rows=rows, item=item),
        embeddings_bytes(config, llama_layers=llama_layers, rows=rows, item=item),
    )


def autoencoder_needs(weights: int, *, channels: int, side: int, item: int) -> AutoencoderNeeds:
    """For a square of ``side`` pixels and ``channels`` in the widest layer at full size."""
    whole, tile = (autoencoder_bytes(channels, pixels, item=item) for pixels in (side, side // 2))
    return AutoencoderNeeds(weights, whole, whole, tile, tile)


# The real model, from its configuration (model.md 2): for plans without the files.

REAL_NAME = "HiDream-E1-Full"
REAL_CONFIG = TransformerConfig(
    in_channels=16,
    out_channels=16,
    patch_size=2,
    num_layers=16,
    num_single_layers=32,
    num_attention_heads=20,
    attention_head_dim=128,
    caption_channels=(4096, 4096),
    text_emb_dim=2048,
    num_routed_experts=4,
    num_activated_experts=2,
    axes_dims_rope=(64, 32, 32),
    max_resolution=(96, 192),
    llama_layers=(*range(32), *(31,) * 16),
)
REAL_AUTOENCODER_PARAMETERS = 83_819_683
REAL_AUTOENCODER_CHANNELS, REAL_SIDE = 256, 768
REAL_TEXTS = {
    "text_encoder": TextSizes(layers=12, width=768, hidden=3072, heads=12),
    "text_encoder_2": TextSizes(layers=32, width=1280, hidden=5120, heads=20),
    "text_encoder_3": TextSizes(layers=24, width=4096, hidden=10240, heads=64),
    "text_encoder_4": TextSizes(layers=32, width=4096, hidden=14336, heads=32),
}


def real_sizes(
    *,
    item: int = 2,
    refine: bool = False,
    quantization: Quantization = Quantization.NONE,
    grouped: bool | None = None,
) -> ModelSizes:
    """HiDream-E1-Full with numbers of ``item`` bytes; ``refine`` adds HiDream-I1-Full as a second transformer.

    ``grouped``: whether experts work at once; by default as on a GPU, where those that are not packed do.
    """
    is_grouped = quantization is Quantization.NONE if grouped is None else grouped
    shapes = transformer_shapes(REAL_CONFIG)
    packing = Packing(quantization, packed_in_transformer(shapes), item)
    tensors = {name: packing.bytes_of(name, shape) for name, shape in shapes.items()}
    parts = [part_of("transformer", tensors)]
    if refine:
        parts.append(part_of("transformer of the refine stage", tensors))
    layers = REAL_TEXTS["text_encoder_4"].layers
    step, texts, cached = needs_of_steps(REAL_CONFIG, llama_layers=layers, item=item, grouped=is_grouped)
    needs = autoencoder_needs(
        REAL_AUTOENCODER_PARAMETERS * item, channels=REAL_AUTOENCODER_CHANNELS, side=REAL_SIDE, item=item
    )
    return ModelSizes(
        REAL_NAME,
        tuple(_real_encoder(name, quantization, item) for name in REAL_TEXTS),
        tuple(parts),
        needs,
        step + packing.unpacking(shapes),
        texts,
        cached,
        quantization,
    )


@dataclass(frozen=True, slots=True)
class _Layers:
    """A text encoder in numbers: the linear layers of a block, and numbers beside them."""

    linear: tuple[tuple[int, int], ...]  # (outputs, inputs)
    beside: int  # in each block
    beside_first: int  # in the first one, in addition
    outside: int  # of blocks


def _real_layers(name: str) -> _Layers:
    sizes = REAL_TEXTS[name]
    width, hidden = sizes.width, sizes.hidden
    square, into, out_of = (width, width), (hidden, width), (width, hidden)
    if name == "text_encoder_3":  # T5
        return _Layers((*[square] * 4, into, into, out_of), 2 * width, 32 * sizes.heads, 32128 * width + width)
    if name == "text_encoder_4":  # Llama
        linear = (square, square, (1024, width), (1024, width), into, into, out_of)
        return _Layers(linear, 2 * width, 0, 128256 * width + width)
    projection = {"text_encoder": 768, "text_encoder_2": 1280}[name]
    outside = (49408 + 248) * width + 2 * width + width * projection
    return _Layers((*[square] * 4, into, out_of), 4 * width + hidden + width + 4 * width, 0, outside)


def _real_encoder(name: str, quantization: Quantization, item: int) -> Encoder:
    layers, sizes = _real_layers(name), REAL_TEXTS[name]
    shapes = {str(index): shape for index, shape in enumerate(layers.linear)}
    packing = Packing(quantization, frozenset(shapes), item)

    def weigh(linear: int) -> tuple[int, tuple[int, ...]]:
        block = linear + layers.beside * item
        return layers.outside * item, (block + layers.beside_first * item, *[block] * (sizes.layers - 1))

    rest, blocks = weigh(sum(packing.bytes_of(index, shape) for index, shape in shapes.items()))
    unpacked = weigh(sum(prod(shape) for shape in shapes.values()) * item)
    working = text_bytes(sizes, rows=TEXT_ROWS, item=item) + packing.unpacking(shapes)
    return Encoder(Part(name, rest, blocks, rest, blocks), working, unpacked[0] + sum(unpacked[1]))


def transformer_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a transformer's weights by arithmetic; a test compares them with the module's own."""
    width, patch = config.width, config.in_channels * config.patch_size**2
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def feed_forward(name: str, nominal: int) -> None:
        hidden = feed_forward_width(nominal)
        linear(f"{name}.w1", width, hidden, bias=False)
        linear(f"{name}.w2", hidden, width, bias=False)
        linear(f"{name}.w3", width, hidden, bias=False)

    linear("x_embedder.proj", patch, width)
    for name, inputs in (("t_embedder.timestep", 256), ("p_embedder.pooled", config.text_emb_dim)):
        linear(f"{name}_embedder.linear_1", inputs, width)
        linear(f"{name}_embedder.linear_2", width, width)
    t5_width, llama_width = config.caption_channels
    for index in range(config.block_count + 1):
        inputs = llama_width if index < config.block_count else t5_width
        linear(f"caption_projection.{index}.linear", inputs, width, bias=False)
    kinds = ["double"] * config.num_layers + ["single"] * config.num_single_layers
    for place, kind in enumerate(kinds):
        index = place if kind == "double" else place - config.num_layers
        block = f"{kind}_stream_blocks.{index}.block"
        linear(f"{block}.adaLN_modulation.1", width, (12 if kind == "double" else 6) * width)
        for suffix in ("", "_t") if kind == "double" else ("",):
            for layer in ("to_q", "to_k", "to_v", "to_out"):
                linear(f"{block}.attn1.{layer}{suffix}", width, width)
            for norm in ("q_rms_norm", "k_rms_norm"):
                shapes[f"{block}.attn1.{norm}{suffix}.weight"] = (width,)
        feed_forward(f"{block}.ff_i.shared_experts", 2 * width)
        for expert in range(config.num_routed_experts):
            feed_forward(f"{block}.ff_i.experts.{expert}", 4 * width)
        shapes[f"{block}.ff_i.gate.weight"] = (config.num_routed_experts, width)
        if kind == "double":
            feed_forward(f"{block}.ff_t", 4 * width)
    linear("final_layer.adaLN_modulation.1", width, 2 * width)
    linear("final_layer.linear", width, patch)
    return shapes
