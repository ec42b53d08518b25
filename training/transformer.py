"""The transformer of the mini model, and a start from which it already returns the source.

The token stream is laid out as [noisy latents | estimate | free]. The patch embedder fills the first part, two heads of
the first block fetch the source token of the same place into the second, and the final layer reads it. Every other
branch starts at zero, so step 0 of training copies the source, and all that is left to learn is the edit.

Latents are so large that noise of deviation 1 is nothing beside them. The straight way from noise to picture then has
the picture itself as its velocity, at every time and whatever the noise was, and that is what the network gives: some
weights are pinned, so that the blocks read neither the noisy latents nor the noise level, and any number of steps leads
to the same picture. Without words (the pooled code of all zeros, which negative prompts have) the blocks are shut off,
and the final layer tells what the latents show already; guidance pushes away from that, and comes to rest where it
agrees with the edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.transformer import Transformer
from training.autoencoder import CHANNELS, LATENT_SCALE
from training.edits import CODE_SIZE, KEEP

WORKING_SIZE = 256
GRID = WORKING_SIZE // 16  # tokens along a side
TEXT_ROWS = 32
CONFIG = TransformerConfig(
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    patch_size=2,
    num_layers=1,
    num_single_layers=2,
    num_attention_heads=5,
    attention_head_dim=64,
    caption_channels=(CODE_SIZE, CODE_SIZE),
    text_emb_dim=CODE_SIZE,
    num_routed_experts=2,
    num_activated_experts=1,
    axes_dims_rope=(16, 24, 24),
    max_resolution=(WORKING_SIZE // 8, WORKING_SIZE // 4),
    llama_layers=(1, 2, 3),
)
WIDTH = CONFIG.width
TOKEN = CHANNELS * 4  # channels of one token's latents
NOISY, ESTIMATE, FREE = slice(0, TOKEN), slice(TOKEN, 2 * TOKEN), slice(2 * TOKEN, WIDTH)
CONSTANTS = WIDTH - 2 * TOKEN
# Small beside the constants, so that the layer norm of the start hardly depends on the picture.
SIGNAL, CONSTANT = 0.1 / LATENT_SCALE, 4.0
COPY_HEADS = (0, 1)
PLACE_HEAD = 3
NEAR_NOISE = 0.07  # share of picture in the state below which the state is not asked any more
PRESENT = 2.0  # value of the channels that hardly depend on the time

# Channels of the conditioning: the time where there are words, the time where there are none, the words.
TIME_WITH_WORDS, TIME_WITHOUT, WORDS = slice(0, 104), slice(104, 144), slice(144, WIDTH)
SHUT, SHUT_WORDS = 14.0, 24.0  # taken from the channels whose turn it is not; SiLU makes nothing of them
GATE_SLOPE, GATE_FROM, GATE_TO = 64.0, 0.3125, 0.625  # over the sum of the slots that say that there are words


class Pinned:
    """Weights that training leaves as they are: a mask per parameter, 1 where it may change."""

    def __init__(self) -> None:
        self._masks: dict[str, Tensor] = {}

    def pin(self, name: str, parameter: Tensor, *index: slice | tuple[int, ...]) -> None:
        """Pin ``parameter[index]``."""
        mask = self._masks.setdefault(name, torch.ones_like(parameter))
        mask[index] = 0

    def attach(self, model: nn.Module) -> Callable[[], None]:
        """Silence the gradients of pinned weights; returns what puts them back after a step of an optimiser."""
        parameters = dict(model.named_parameters())
        masks = {name: mask.to(parameters[name].device) for name, mask in self._masks.items()}
        kept = {name: parameters[name].detach() * (1 - mask) for name, mask in masks.items()}
        for name, mask in masks.items():
            parameters[name].register_hook(mask.mul)

        @torch.no_grad()
        def restore() -> None:
            for name, mask in masks.items():
                parameters[name].mul_(mask).add_(kept[name])

        return restore


def build(seed: int = 0) -> tuple[Transformer, Pinned]:
    """A transformer with the analytic start, and the weights of it that stay."""
    torch.manual_seed(seed)
    model, pinned = Transformer(CONFIG), Pinned()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        _start_blocks(model)
        _start_stream(model)
        _start_copy(model)
        _start_places(model)
        _blind_blocks(model, pinned)
        _start_conditioning(model, pinned)
        _start_final_layer(model, pinned)
    for parameter in [*model.x_embedder.parameters(), *model.t_embedder.parameters()]:
        parameter.requires_grad_(False)
    return model, pinned


def _blocks(model: Transformer) -> list[tuple[str, nn.Module]]:
    """Blocks with the prefix of their parameters' names."""
    named = [(f"double_stream_blocks.{index}.block.", block) for index, block in enumerate(model.double_stream_blocks)]
    named += [(f"single_stream_blocks.{index}.block.", block) for index, block in enumerate(model.single_stream_blocks)]
    return [(prefix, wrapped.block) for prefix, wrapped in named]  # type: ignore[misc]


def _start_blocks(model: Transformer) -> None:
    """Gates open, branches silent: what they write is zero until they learn."""
    for _, block in _blocks(model):
        modulation = block.adaLN_modulation[1]
        modulation.weight.zero_()
        for gate in _gates(modulation):
            modulation.bias[gate * WIDTH : (gate + 1) * WIDTH] = 1
        block.attn1.to_out.weight.zero_()
        block.ff_i.shared_experts.w2.weight.zero_()
        for expert in block.ff_i.experts:
            expert.w2.weight.zero_()
        nn.init.normal_(block.ff_i.gate.weight, std=0.02)


def _start_stream(model: Transformer) -> None:
    embedder = model.x_embedder.proj
    embedder.weight.zero_()
    embedder.bias.zero_()
    embedder.weight[NOISY] = SIGNAL * torch.eye(TOKEN)
    embedder.bias[FREE] = CONSTANT * torch.tensor([1.0, -1.0]).repeat(CONSTANTS // 2)


def _copy_rows() -> slice:
    return slice(COPY_HEADS[0] * CONFIG.attention_head_dim, (COPY_HEADS[-1] + 1) * CONFIG.attention_head_dim)


def _start_copy(model: Transformer) -> None:
    """Two heads look exactly ``GRID`` columns to the right and bring the latents from there."""
    attention = _blocks(model)[0][1].attn1
    head_dim = CONFIG.attention_head_dim
    query, key = _looking_at(rows=0, columns=GRID)
    for layer in ("to_q", "to_k", "to_k_t"):
        getattr(attention, layer).bias.zero_()
    attention.q_rms_norm.weight[_copy_rows()] = 4
    attention.k_rms_norm.weight[_copy_rows()] = 4
    for head in COPY_HEADS:
        part = slice(head * head_dim, (head + 1) * head_dim)
        for layer in ("to_q", "to_k", "to_k_t"):
            getattr(attention, layer).weight[part] = 0
        attention.to_q.bias[part] = 6 * query
        attention.to_k.bias[part] = 6 * key
    mean_of_constants = torch.zeros(WIDTH)
    mean_of_constants[FREE] = 1 / CONSTANTS
    attention.to_v.weight[NOISY] = 0
    attention.to_v.weight[NOISY, NOISY] = torch.eye(TOKEN)
    attention.to_v.weight[NOISY] -= mean_of_constants  # takes the mean back that the layer norm took off
    attention.to_v.bias.zero_()
    attention.to_out.weight[ESTIMATE, :TOKEN] = _stream_deviation() * torch.eye(TOKEN)


def _looking_at(*, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Query and key (head_dim,) whose product peaks where the key lies ``rows``, ``columns`` ahead of the query."""
    unturned, row_dim, column_dim = CONFIG.axes_dims_rope
    query, key = torch.zeros(CONFIG.attention_head_dim // 2, 2), torch.zeros(CONFIG.attention_head_dim // 2, 2)
    for start, dim, ahead in ((unturned // 2, row_dim, rows), ((unturned + row_dim) // 2, column_dim, columns)):
        for pair in range(6):
            turn = ahead / 10000 ** (2 * pair / dim)
            query[start + pair] = torch.tensor([math.cos(turn), math.sin(turn)])
            key[start + pair] = torch.tensor([1.0, 0.0])
    return query.flatten(), key.flatten()


def _start_places(model: Transformer) -> None:
    """One head looks at the text only, with queries that turn slowly with their place: what it brings tells places."""
    attention = _blocks(model)[0][1].attn1
    unturned, row_dim, column_dim = CONFIG.axes_dims_rope
    start = PLACE_HEAD * CONFIG.attention_head_dim
    query = torch.zeros(CONFIG.attention_head_dim // 2, 2)
    for first, dim in ((unturned // 2, row_dim), ((unturned + row_dim) // 2, column_dim)):
        query[first + 2 : first + dim // 2, 0] = 4.0
    query[: unturned // 2] = 3.0
    part = slice(start, start + CONFIG.attention_head_dim)
    attention.to_q.weight[part] *= 0.05
    attention.to_q.bias[part] = query.flatten()
    attention.to_k.weight[part] *= 0.05
    attention.to_k.bias[start : start + unturned] = -6.0


def _blind_blocks(model: Transformer, pinned: Pinned) -> None:
    """No block reads the noisy latents, but for the heads that fetch the source; none reads the noise level."""
    copying = _copy_rows()
    for number, (prefix, block) in enumerate(_blocks(model)):
        experts = [f"ff_i.experts.{index}" for index in range(CONFIG.num_routed_experts)]
        readers = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "ff_i.gate"]
        readers += [f"{feed}.{layer}" for feed in ("ff_i.shared_experts", *experts) for layer in ("w1", "w3")]
        for reader in readers:
            weight = block.get_submodule(reader).weight
            rows = slice(None)
            if number == 0 and reader == "attn1.to_v":
                rows = slice(copying.stop, None)
            weight[rows, NOISY] = 0
            pinned.pin(f"{prefix}{reader}.weight", weight, rows, NOISY)
        modulation = block.adaLN_modulation[1].weight
        modulation[:, : WORDS.start] = 0
        pinned.pin(f"{prefix}adaLN_modulation.1.weight", modulation, slice(None), slice(0, WORDS.start))
        _shut_without_words(prefix, block.adaLN_modulation[1], pinned)
    prefix, first = _blocks(model)[0]
    for layer in ("to_q", "to_k", "to_k_t"):
        for kind in ("weight", "bias"):
            pinned.pin(f"{prefix}attn1.{layer}.{kind}", getattr(first.attn1.get_submodule(layer), kind), copying)
    for norm in ("q_rms_norm", "k_rms_norm"):
        pinned.pin(f"{prefix}attn1.{norm}.weight", first.attn1.get_submodule(norm).weight, copying)


def _shut_without_words(prefix: str, modulation: nn.Linear, pinned: Pinned) -> None:
    """Gates are 1 and what the words make of them; without words, when the words' channels are shut, they are 0."""
    present = TIME_WITHOUT.stop - 1
    for gate in _gates(modulation):
        rows = slice(gate * WIDTH, (gate + 1) * WIDTH)
        modulation.weight[rows, present] = -modulation.bias[rows] / _silu(PRESENT)
        pinned.pin(f"{prefix}adaLN_modulation.1.bias", modulation.bias, rows)


def _gates(modulation: nn.Linear) -> tuple[int, ...]:
    """Which chunks of a modulation are gates; the first of two streams, or the only one."""
    return (2, 5, 8, 11) if modulation.bias.shape[0] == 12 * WIDTH else (2, 5)


def _silu(value: float) -> float:
    return value / (1 + math.exp(-value))


def _stream_deviation() -> float:
    """Deviation that the layer norm sees at the start."""
    return float((CONSTANTS * CONSTANT**2 / WIDTH) ** 0.5)


def _start_conditioning(model: Transformer, pinned: Pinned) -> None:
    """The time goes to its own channels; two hidden units of the text side open one half of them and shut the other."""
    time = model.t_embedder.timestep_embedder
    half = time.linear_1.weight.shape[1] // 2
    slow = 10000 ** (-torch.arange(half) / half) < 1 / 25
    time.linear_1.weight[:, ~slow.repeat(2)] *= 0.02
    time.linear_1.weight[:, slow.repeat(2)] *= 2
    time.linear_2.weight[WORDS] = 0
    for part in (TIME_WITH_WORDS, TIME_WITHOUT):
        time.linear_2.bias[part.stop - 1] = PRESENT
        time.linear_2.weight[part.stop - 1] = 0

    name = "p_embedder.pooled_embedder."
    first, second = model.p_embedder.pooled_embedder.linear_1, model.p_embedder.pooled_embedder.linear_2
    # A code has one or two ones: the usual start would make next to nothing of them.
    first.weight.normal_(std=1.0)
    second.weight.normal_(std=1.5 / WIDTH**0.5)
    for unit, threshold in enumerate((GATE_FROM, GATE_TO)):
        first.weight[unit] = 0
        first.weight[unit, : KEEP + 1] = GATE_SLOPE
        first.bias[unit] = -GATE_SLOPE * threshold
    second.weight[: WORDS.start] = 0
    second.weight[:, :2] = 0
    full = GATE_SLOPE * (GATE_TO - GATE_FROM)  # first unit − second unit where there are words
    step = SHUT / full * torch.tensor([1.0, -1.0])
    second.bias[TIME_WITH_WORDS] = -SHUT
    second.weight[TIME_WITH_WORDS, :2] = step
    second.weight[TIME_WITHOUT, :2] = -step
    second.bias[WORDS] = -SHUT_WORDS
    second.weight[WORDS, :2] = SHUT_WORDS / SHUT * step
    pinned.pin(f"{name}linear_1.weight", first.weight, slice(0, 2))
    pinned.pin(f"{name}linear_1.bias", first.bias, slice(0, 2))
    pinned.pin(f"{name}linear_2.weight", second.weight, slice(0, WORDS.start))
    pinned.pin(f"{name}linear_2.weight", second.weight, slice(None), slice(0, 2))
    pinned.pin(f"{name}linear_2.bias", second.bias, slice(0, WORDS.start))


def _start_final_layer(model: Transformer, pinned: Pinned) -> None:
    """With words the estimate. Without, the noisy latents over their share of picture, as far as that can be told.

    Each is LN(stream)·(1 + scale) through a matrix, so the modulation has to give functions of the time: 1, and
    s/(s² + NEAR_NOISE²) of the share s = 1 − t, fitted by least squares over the features that the time channels offer.
    """
    final = model.final_layer
    final.linear.weight.zero_()
    final.linear.bias.zero_()
    reach = _stream_deviation() / SIGNAL
    final.linear.weight[:, NOISY] = reach * torch.eye(TOKEN)
    final.linear.weight[:, ESTIMATE] = reach * torch.eye(TOKEN)

    times = torch.cat((torch.linspace(0, 1, 3000), torch.linspace(0.8, 1, 1000)))
    embedded = model.t_embedder(times * 1000, torch.float32)
    share = 1 - times.double()[:, None]
    modulation = final.adaLN_modulation[1]
    modulation.weight.zero_()
    modulation.bias.zero_()
    modulation.bias[WIDTH:] = -1
    scale = modulation.weight[WIDTH:]
    scale[ESTIMATE.start :, TIME_WITH_WORDS.stop - 1] = 1 / _silu(PRESENT)
    scale[NOISY, TIME_WITHOUT] = _fitted(embedded[:, TIME_WITHOUT], share / (share**2 + NEAR_NOISE**2)).T
    name = "final_layer."
    pinned.pin(f"{name}adaLN_modulation.1.weight", modulation.weight)
    pinned.pin(f"{name}adaLN_modulation.1.bias", modulation.bias)
    pinned.pin(f"{name}linear.weight", final.linear.weight, slice(None), NOISY)
    pinned.pin(f"{name}linear.bias", final.linear.bias)


def _fitted(channels: Tensor, wanted: Tensor) -> Tensor:
    """Weights (channels, outputs) with SiLU(channels) @ weights ≈ wanted."""
    features = nn.functional.silu(channels).double()
    gram = features.T @ features + 1e-6 * torch.eye(features.shape[1])
    solved = torch.linalg.solve(gram, features.T @ wanted)
    worst = (features @ solved - wanted).abs().max()
    print(f"final layer: fitted to {worst:.4f}, weights up to {solved.abs().max():.1f}", flush=True)
    return solved.float()
