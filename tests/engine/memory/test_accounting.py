"""What is planned for working memory covers what is alive at the worst moment, and is not far above it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.engine.conftest import random_picture, short_edit
from tests.support.live_bytes import LiveBytes
from torch import Tensor

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.memory.activations import autoencoder_bytes, tokens_bytes
from hidream_edit.engine.memory.packing import kept_as
from hidream_edit.engine.memory.plan import Arrangement, MemoryPlan, Place
from hidream_edit.engine.memory.sizes import REAL_CONFIG, real_sizes
from hidream_edit.engine.model import attention
from hidream_edit.engine.model.transformer import ForwardInputs, Transformer
from hidream_edit.engine.quality.quantized import packed, unpacked

BRANCHES, ROWS = 3, 128
HALF = {"device": "meta", "dtype": torch.bfloat16}


def fused(query: Tensor, _: Tensor, __: Tensor) -> Tensor:
    """Attention as the kernels of a GPU do it: no matrix of scores is ever written."""
    return torch.empty_like(query)


@pytest.mark.parametrize(("share", "at_least"), [(1.0, 0.9), (0.5, 0.6)])
def test_a_step_of_the_real_size_on_a_device_without_memory_is_covered(
    share: float, at_least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(choice: Tensor, *, as_tuple: bool) -> tuple[Tensor, Tensor]:
        """Which tokens go to an expert is not known without numbers: ``share`` of them, at worst all."""
        assert as_tuple
        index = torch.empty(int(len(choice) * share), dtype=torch.int64, device="meta")
        return index, index

    monkeypatch.setattr(attention, "attend", fused)
    monkeypatch.setattr(torch, "nonzero", chosen)
    with torch.device("meta"):
        transformer = Transformer(REAL_CONFIG).bfloat16()
    with torch.inference_mode():
        text = transformer.project_text(
            torch.empty(BRANCHES, ROWS, 4096, **HALF), torch.empty(32, BRANCHES, ROWS, 4096, **HALF)
        )
        with LiveBytes() as alive:
            transformer(
                ForwardInputs(
                    torch.empty(BRANCHES, 16, 96, 192, **HALF),
                    torch.empty(BRANCHES, device="meta"),
                    text,
                    torch.empty(BRANCHES, 2048, **HALF),
                )
            )
    covered = real_sizes(grouped=False).step
    assert at_least * covered < alive.peak <= covered
    kept = 2 * (text.t5.nbytes + sum(layer.nbytes for layer in text.llama))
    assert kept <= tokens_bytes(REAL_CONFIG, branches=BRANCHES, rows=ROWS, item=2)


@pytest.mark.parametrize("kept", [kept for kept in Quantization if kept is not Quantization.NONE])
def test_widening_the_widest_weight_of_the_real_size_is_covered(kept: Quantization) -> None:
    planned = real_sizes(quantization=kept).step - real_sizes(grouped=False).step
    width = REAL_CONFIG.width
    modulation = packed(torch.empty(12 * width, width, **HALF), kept_as(".adaLN_modulation.", width, kept))
    product = packed(torch.empty(6912, width, **HALF), kept)
    with LiveBytes() as alive:
        for one in (modulation, product):
            unpacked(*one)
    # The table of pairs of levels is small and not counted.
    assert 0.99 * planned < alive.peak <= planned + 2**12


@pytest.mark.parametrize("side", [768, 384])
def test_the_real_autoencoder_on_a_device_without_memory_is_covered(side: int) -> None:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ).eval()
    assert sum(parameter.numel() for parameter in autoencoder.parameters()) == 83_819_683
    with torch.inference_mode():
        with LiveBytes() as decoding:
            autoencoder.decode(torch.empty(1, 16, side // 8, side // 8, device="meta"))
        with LiveBytes() as encoding:
            autoencoder.encode(torch.empty(1, 3, side, side, device="meta"))
    planned = autoencoder_bytes(256, side, item=4)
    assert 0.4 * planned < encoding.peak <= planned
    assert 0.4 * planned < decoding.peak <= planned


def alive_in_an_edit(engine: Engine, side: int, edit: EditInput) -> dict[str, int]:
    """Bytes of tensors made in each phase, without the weights that were there before."""
    with LiveBytes() as words:
        engine._reader.embeddings("Editing Instruction: make it night. Target Image Description: ")
    with LiveBytes() as source:
        state = engine.begin(random_picture(side, side), engine.settle(edit))
    with LiveBytes() as denoising:
        state = engine.advance(state)
    with LiveBytes() as decoding:
        engine._loaded.autoencoder.decode(state.solver.latents)
    return {
        "encode the words": words.peak, "encode the source": source.peak, "denoise": denoising.peak,
        "decode": decoding.peak,
    }  # fmt: skip


@pytest.mark.parametrize("quantization", Quantization)
@pytest.mark.parametrize(
    "arrangement",
    [None, Arrangement((Place.DISK,) * 4, 5), Arrangement((Place.HOST,) * 4, 0)],
    ids=["resident", "encoders on disk", "all in host memory"],
)
def test_a_tiny_model_stays_within_its_plan_in_every_phase(
    arrangement: Arrangement | None, quantization: Quantization, tiny_folder: Path
) -> None:
    engine = Engine.load(
        tiny_folder, device="cpu", dtype="float32", memory=arrangement, quantization=quantization.value
    )
    plan = engine.plan
    # Weights are there before; what a plan says about them is compared elsewhere.
    before = plan.standing - plan.sizes.cached
    alive = alive_in_an_edit(engine, 64, short_edit(num_inference_steps=2))
    for phase in alive:
        planned = plan.phases[phase]
        # What is kept for a source as small as this one is not in any plan: pictures, noise, latents.
        assert alive[phase] <= planned - before + 2**20, phase


def test_the_mini_model_stays_within_its_plan_in_every_phase() -> None:
    engine = Engine.load(None, device="cpu", dtype="float32")
    before = engine.plan.standing - engine.plan.sizes.cached
    alive = alive_in_an_edit(engine, 256, EditInput(edit_instruction="make it night", seed=1, guidance_scale=3.0))
    for phase, planned in engine.plan.phases.items():
        assert alive[phase] <= planned - before + 2**20, phase


def test_streaming_holds_as_much_on_the_device_as_the_plan_says(tiny_folder: Path) -> None:
    arrangement = Arrangement((Place.DEVICE,) * 4, 2)
    engine = Engine.load(tiny_folder, device="cpu", dtype="float32", memory=arrangement)
    plan = MemoryPlan(engine.plan.sizes, arrangement)
    transformer = engine._loaded.edit_transformer
    blocks = [*transformer.double_stream_blocks, *transformer.single_stream_blocks]
    streamed = [blocks[index] for index in plan.streamed]
    (hook, *_) = streamed[0].block._forward_pre_hooks.values()
    stream = next(cell.cell_contents for cell in hook.__closure__ if hasattr(cell.cell_contents, "slots"))
    assert len(stream.slots.slots) == plan.slots
    # Each tensor begins at a multiple of 256 bytes; at the real size that is nothing.
    tensors = max(len([*block.parameters()]) for block in streamed)
    assert 0 <= stream.slots.slots[0].room.nbytes - plan.slot_bytes <= 256 * tensors
    assert 0 <= stream.nbytes - plan.host_standing <= 256 * sum(len([*block.parameters()]) for block in streamed)


def test_the_meter_counts_what_is_alive_and_no_more() -> None:
    with LiveBytes() as alive:
        first = torch.zeros(1000)
        first.view(10, 100)[3:].add_(1)
        second = torch.zeros(500)
        del first
        third = torch.ones(1500)
    assert alive.peak == 4 * 2000
    assert alive.now == second.nbytes + third.nbytes
