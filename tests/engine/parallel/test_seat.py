"""Ranks as threads: whatever is shared out, the output is that of one device."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.engine.conftest import relative_difference
from tests.support.threads_as_ranks import Table, ThreadLinks, ThreadWorld, on_threads, tables_of
from tests.support.tiny_checkpoint import TRANSFORMER
from torch import Tensor

from hidream_edit.engine.model.attention import Pad, attend
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.transformer import ForwardInputs, TextTokens, Transformer
from hidream_edit.engine.parallel.attention import Merged, Ring, TeamPad, Ulysses
from hidream_edit.engine.parallel.mesh import FAR, NEAR
from hidream_edit.engine.parallel.seat import Order, Seat, TextOrder

FOUR_HEADS = TransformerConfig.from_json(
    TRANSFORMER | {"num_attention_heads": 4, "attention_head_dim": 8, "axes_dims_rope": [4, 2, 2]}
)
TEXT_ROWS = (5, 7)
ALL = Measures(trims=True, one_pad=True)
ALWAYS_SHARED, NEVER_SHARED = 0.0, 10.0


@functools.cache
def random_transformer(config: TransformerConfig, measures: Measures, rank: int = 0) -> Transformer:
    """The same weights for every rank, in a module of its own, since modules keep what they computed last."""
    del rank
    draw = torch.Generator().manual_seed(0)  # of its own: ranks are threads, and all make the same one
    model = Transformer(config, measures).eval().requires_grad_(False)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=draw) * 0.15)
    return model


def inputs(branches: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((branches, 16, rows, columns), (branches, 5, 24), (4, branches, 7, 32), (branches, 48))
    canvas, t5, llama, pooled = (torch.randn(shape, generator=draw) for shape in shapes)
    return canvas, torch.full((branches,), 700.0), t5, llama, pooled


def on_ranks(
    ranks: int,
    config: TransformerConfig,
    measures: Measures,
    *,
    branches: int,
    canvas: tuple[int, int],
    exchange: float,
) -> tuple[list[Tensor], Tensor]:
    """The output of every rank, and that of one device."""
    noise_columns = canvas[1] // 2 if canvas[1] > canvas[0] else canvas[1]
    pixels, timesteps, t5, llama, pooled = inputs(branches, *canvas)
    made: dict[Any, Table] = {}
    tables = tables_of(made)

    def do(rank: int) -> Tensor:
        model = random_transformer(config, measures, rank)
        seat = Seat(ThreadWorld(rank, ranks, tables, heads=config.num_attention_heads, exchange=exchange), [model])
        text = model.project_text(t5, llama)
        for new in (True, False):  # the second time, the text is known
            order = Order(
                0, 0, TextOrder.of(text, pooled) if new else None, tuple(pixels.shape), noise_columns, "float32"
            )
            order = Order.from_json(order.as_json())
            told = (text, pooled) if rank == 0 else None
            seen = (pixels.clone(), timesteps.clone()) if rank == 0 else (torch.empty_like(pixels), timesteps * 0)
            output = seat.take_part(order, seen, told)
        return output

    outputs = on_threads(ranks, do, made)
    with torch.inference_mode():
        model = random_transformer(config, measures)
        whole = model(ForwardInputs(pixels, timesteps, model.project_text(t5, llama), pooled, noise_columns))
    return outputs, whole


@pytest.mark.parametrize("measures", [ALL, PLAIN], ids=["all measures", "plain"])
@pytest.mark.parametrize("canvas", [(8, 16), (6, 12), (10, 6)], ids=["full", "padded", "portrait"])
@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_together_compute_what_one_device_does(
    ranks: int, branches: int, canvas: tuple[int, int], measures: Measures
) -> None:
    for exchange in (ALWAYS_SHARED, NEAR, NEVER_SHARED):
        outputs, whole = on_ranks(ranks, FOUR_HEADS, measures, branches=branches, canvas=canvas, exchange=exchange)
        for output in outputs:
            assert relative_difference(output, whole) <= 1e-5


def test_heads_that_do_not_come_out_even_go_round_the_ring() -> None:
    three = replace(FOUR_HEADS, num_attention_heads=3, attention_head_dim=8)
    for ranks in (2, 4):
        outputs, whole = on_ranks(ranks, three, ALL, branches=1, canvas=(6, 12), exchange=ALWAYS_SHARED)
        assert relative_difference(outputs[0], whole) <= 1e-5


def test_a_model_without_single_blocks_is_shared_too() -> None:
    doubles = replace(FOUR_HEADS, num_single_layers=0, llama_layers=(0, 1))
    outputs, whole = on_ranks(2, doubles, ALL, branches=1, canvas=(6, 12), exchange=ALWAYS_SHARED)
    assert relative_difference(outputs[0], whole) <= 1e-5


def test_branches_on_devices_of_their_own_are_the_same_to_the_bit() -> None:
    outputs, _ = on_ranks(3, FOUR_HEADS, ALL, branches=3, canvas=(6, 12), exchange=FAR)
    pixels, timesteps, t5, llama, pooled = inputs(3, 6, 12)
    model = random_transformer(FOUR_HEADS, ALL)
    with torch.inference_mode():
        text: TextTokens = model.project_text(t5, llama)
        for row in range(3):
            one = slice(row, row + 1)
            alone = model(ForwardInputs(pixels[one], timesteps[one], text.rows([row]), pooled[one], noise_columns=6))
            assert torch.equal(outputs[0][one], alone)


def qkv(queries: int, keys: int, heads: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(queries + 100 * keys)
    return tuple(torch.randn(2, heads, count, 8, generator=draw) for count in (queries, keys, keys))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["ulysses", "ring"])
@pytest.mark.parametrize("counts", [[(3, 5), (3, 4)], [(2, 4), (0, 3), (5, 5)], [(1, 2), (1, 1), (4, 3), (0, 6)]])
def test_attention_over_ranks_reads_what_attention_in_one_place_does(kind: str, counts: list[tuple[int, int]]) -> None:
    size = len(counts)
    heads = 4 * size if kind == "ulysses" else 5
    queries, keys = zip(*counts, strict=True)
    query, key, value = qkv(sum(queries), sum(keys), heads)
    pad = Pad(sum(keys[:-1]), 20)
    key[:, :, pad.place] = 0
    made = {(): Table(size)}

    def do(position: int) -> Tensor:
        links: Any = ThreadLinks(made[()], size, position)
        by: Any = Ring(links, keys=keys, pad=TeamPad(size - 1, pad._replace(place=0)))
        if kind == "ulysses":
            by = Ulysses(links, attend, queries=queries, keys=keys, pad=pad)
        mine = (query.split(queries, 2)[position], *(each.split(keys, 2)[position] for each in (key, value)))
        return by(*mine)  # type: ignore[no-any-return]

    together = torch.cat(on_threads(size, do, made), dim=2)
    assert torch.allclose(together, attend(query, key, value, pad), atol=1e-6)


def test_logits_far_apart_are_merged_without_overflow() -> None:
    query, key, value = qkv(3, 6)
    key[:, :, :3] *= 300
    merged = Merged(query)
    for part in (slice(3), slice(3, 6)):
        merged.add(key[:, :, part], value[:, :, part])
    assert torch.allclose(merged.values, attend(query, key, value), atol=1e-5)
