"""The count of what a forward has to compute: the numbers of model.md 13, and what a counter of torch's sees."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from benchmarks.engine.cases import TINY
from benchmarks.engine.floor import CEILING_FLOPS, Mixing, Product, flops_of, measured_seconds, work_of_forward
from diffusers import HiDreamImageTransformer2DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hidream_edit.engine.memory.sizes import REAL_CONFIG
from hidream_edit.engine.model.config import TransformerConfig

TERA = 1e12


@pytest.mark.parametrize(
    ("image_tokens", "parts", "total"),
    [
        pytest.param(
            4608,
            {"experts": 62.43, "attention": 12.25, "projections": 12.56, "text": 0.65, "captions": 0.13},
            88.04,
            id="edit",
        ),
        pytest.param(
            2304,
            {"experts": 32.86, "attention": 3.55, "projections": 6.77, "text": 0.65, "captions": 0.13},
            43.97,
            id="refine",
        ),
    ],
)
def test_the_real_size_takes_what_the_table_says(image_tokens: int, parts: dict[str, float], total: float) -> None:
    flops = flops_of(work_of_forward(REAL_CONFIG, image_tokens=image_tokens, text_rows=128, branches=1))
    # The table's 6.77 is 6.765: its last digit is not always rounded the usual way.
    assert {part: flops[part] / TERA for part in parts} == pytest.approx(parts, abs=0.006)
    assert round(sum(flops.values()) / TERA, 2) == total


def test_fifty_steps_of_three_branches_have_the_floor_of_the_table() -> None:
    flops = flops_of(work_of_forward(REAL_CONFIG, image_tokens=4608, text_rows=128, branches=3))
    assert round(sum(flops.values()) / CEILING_FLOPS, 3) == 0.334
    assert round(50 * sum(flops.values()) / CEILING_FLOPS, 2) == 16.72


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("branches", [1, 3])
@pytest.mark.parametrize("active", [1, 2, 4])
def test_a_counter_sees_the_same_products(branches: int, active: int) -> None:
    config = replace(TINY.model.config, num_activated_experts=active)
    model = library_class(config)
    rows, columns = config.max_resolution
    text_rows = 16
    # The counter knows attention as two products, and not the kernel of CPUs that does both.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(
            torch.randn(branches, config.in_channels, rows, columns),
            timesteps=torch.full((branches,), 500),
            encoder_hidden_states_t5=torch.randn(branches, text_rows, config.caption_channels[0]),
            encoder_hidden_states_llama3=torch.randn(2, branches, text_rows, config.caption_channels[1]),
            pooled_embeds=torch.randn(branches, config.text_emb_dim),
        )
    work = work_of_forward(config, image_tokens=config.max_tokens, text_rows=text_rows, branches=branches)
    assert counter.get_total_flops() == sum(flops_of(work).values())


def test_every_part_takes_time() -> None:
    work = work_of_forward(TINY.model.config, image_tokens=32, text_rows=16, branches=1)
    ticks = iter(range(10_000))
    seconds = measured_seconds(work, torch.device("cpu"), torch.float32, lambda: float(next(ticks)))
    # With a clock that ticks once per look, every operation takes one second each time it runs.
    assert seconds == {part: sum(operations.values()) for part, operations in work.items()}


@pytest.mark.parametrize("operation", [Product(3, 4, 5), Mixing(1, 2, 6, 4)], ids=repr)
def test_all_ways_compute_the_same_amount(operation: Product | Mixing) -> None:
    results = [way() for way in operation.operation(torch.device("cpu"), torch.float32)]
    assert len({result.shape for result in results}) == 1  # type: ignore[attr-defined]


def library_class(config: TransformerConfig) -> HiDreamImageTransformer2DModel:
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    model = HiDreamImageTransformer2DModel(**facts).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # gates start uninitialised
    return model
