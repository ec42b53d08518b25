"""Plans are arithmetic over sizes; those of the real size are known without its files."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import short_edit

from hidream_edit.domain.errors import InputInvalid, MemoryTooSmall
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine import devices, library_parts, loading, stage_transformers
from hidream_edit.engine.checked_model import ModelSource
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.loading import plan_model
from hidream_edit.engine.memory.plan import (
    Arrangement,
    MemoryPlan,
    Place,
    Room,
    choose,
    choose_in,
    everything_resident,
    parse_memory,
    spread,
)
from hidream_edit.engine.memory.sizes import REAL_CONFIG, ModelSizes, real_sizes, transformer_shapes
from hidream_edit.engine.model.transformer import Transformer

GB = 10**9
PARAMETERS = {  # model.md 2, which counts Llama with its head of 128256 x 4096
    "text_encoder": 123_781_632,
    "text_encoder_2": 694_878_720,
    "text_encoder_3": 4_762_310_656,
    "text_encoder_4": 8_030_261_248 - 128_256 * 4096,
}


@pytest.fixture(scope="module")
def real() -> ModelSizes:
    return real_sizes()


def planned(sizes: ModelSizes, gigabytes: float, host: float | None = None) -> MemoryPlan:
    return choose(sizes, Room(int(gigabytes * GB), None if host is None else int(host * GB)))


def test_the_real_size_is_the_published_one(real: ModelSizes) -> None:
    assert {encoder.part.name: encoder.part.weights // 2 for encoder in real.encoders} == PARAMETERS
    assert real.transformers[0].weights == 2 * 17_105_733_184
    assert len(real.transformers[0].blocks) == 48


def test_the_arithmetic_of_a_transformer_is_that_of_its_module() -> None:
    with torch.device("meta"):
        module = Transformer(REAL_CONFIG)
    real = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert transformer_shapes(REAL_CONFIG) == real
    assert sum(prod(shape) for shape in real.values()) == 17_105_733_184


def test_with_80_gb_nothing_moves(real: ModelSizes) -> None:
    plan = planned(real, 80)
    assert plan.everything_is_resident
    assert plan.cost == 0
    assert plan.host_peak == 0
    assert plan.peak < 66 * GB


def test_with_48_gb_encoders_leave_before_any_block(real: ModelSizes) -> None:
    plan = planned(real, 48)
    assert plan.streamed == ()
    assert Place.HOST in plan.arrangement.encoders
    assert plan.bus_bytes_per_step == 0


def test_the_real_size_fits_into_24_gb_without_quantisation(real: ModelSizes) -> None:
    plan = planned(real, 24)
    assert plan.peak <= 24 * GB
    assert not plan.arrangement.tiled
    assert 20 <= plan.arrangement.resident_blocks < 48
    assert plan.bus_bytes_per_step < 17 * GB
    assert plan.disk_bytes_per_text == 0


def test_the_real_size_fits_into_16_gb_by_streaming(real: ModelSizes) -> None:
    plan = planned(real, 16)
    assert plan.peak <= 16 * GB
    assert not plan.arrangement.tiled
    assert plan.bus_bytes_per_step < 25 * GB
    assert plan.host_peak < 51 * GB


def quantized(kept: Quantization) -> ModelSizes:
    return real_sizes(quantization=kept)


def test_weights_in_eight_bits_are_half_and_in_four_a_third(real: ModelSizes) -> None:
    for kept, share in ((Quantization.INT8, 0.53), (Quantization.FLOAT8, 0.53), (Quantization.NF4, 0.33)):
        assert quantized(kept).weights < share * real.weights


@pytest.mark.parametrize(("kept", "size"), [("int8", 24), ("float8", 24), ("nf4", 16)])
def test_a_quantized_transformer_stays_where_a_whole_one_streams(kept: str, size: int, real: ModelSizes) -> None:
    plan = planned(quantized(Quantization(kept)), size)
    assert plan.streamed == ()
    assert planned(real, size).streamed
    assert not plan.arrangement.tiled


def test_a_packed_encoder_needs_host_memory_for_all_of_it_while_its_library_reads_it() -> None:
    plan = planned(quantized(Quantization.NF4), 16)
    llama = plan.sizes.encoders[-1]
    assert llama.packed_later > 10 * GB
    assert plan.host_peak == plan.host_standing + llama.packed_later
    from_disk = replace(plan, arrangement=replace(plan.arrangement, encoders=(Place.DISK,) * 4))
    assert from_disk.host_peak == llama.unpacked


def test_on_a_cpu_the_last_encoder_may_need_more_than_what_stays(tiny_engine: Engine) -> None:
    sizes = tiny_engine.plan.sizes
    small = replace(sizes.encoders[-1], unpacked=sizes.encoders[-1].part.weights + 10 * GB)
    plan = everything_resident(replace(sizes, encoders=(*sizes.encoders[:-1], small)), is_shared=True)
    assert plan.phases["load the encoders"] == plan.loading > 10 * GB
    assert plan.peak > plan.loading
    assert "load the encoders" not in tiny_engine.plan.phases


def test_a_refusal_says_in_which_quantization_it_would_fit() -> None:
    def sizes_of(kept: Quantization) -> ModelSizes:
        return real_sizes(quantization=kept)

    with pytest.raises(MemoryTooSmall, match="with quantization int8 it fits"):
        choose_in(Quantization.NONE, Room(16 * GB, 24 * GB), sizes_of)
    with pytest.raises(MemoryTooSmall, match="with quantization nf4 it fits"):
        choose_in(Quantization.NONE, Room(12 * GB, 22 * GB), sizes_of)
    with pytest.raises(MemoryTooSmall) as nothing_does:
        choose_in(Quantization.NONE, Room(1 * GB, 1 * GB), sizes_of)
    assert "quantization" not in str(nothing_does.value)
    with pytest.raises(MemoryTooSmall) as asked:
        choose_in(Quantization.INT8, Room(12 * GB, 16 * GB), sizes_of)
    assert "quantization" not in str(asked.value)
    assert choose_in(Quantization.NF4, Room(16 * GB), sizes_of).sizes.quantization is Quantization.NF4


def test_24_gb_beside_40_gb_of_host_memory_reads_encoders_from_disk(real: ModelSizes) -> None:
    plan = planned(real, 24, host=38)
    assert Place.DISK in plan.arrangement.encoders
    assert plan.host_peak <= 38 * GB
    assert plan.disk_bytes_per_text > 0
    assert planned(real, 24, host=44).disk_bytes_per_text == 0


def test_both_stages_fit_into_24_gb_too() -> None:
    sizes = real_sizes(refine=True)
    assert everything_resident(sizes).peak > 96 * GB
    plan = planned(sizes, 24)
    assert plan.peak <= 24 * GB
    assert plan.host_peak > planned(real_sizes(), 24).host_peak


def test_tiles_are_taken_only_where_no_exact_plan_fits() -> None:
    one_by_one = real_sizes(grouped=False)  # all experts at once need more than the autoencoder as a whole
    tiled = [planned(one_by_one, tenths / 10).arrangement.tiled for tenths in range(62, 80, 2)]
    assert tiled == sorted(tiled, reverse=True)
    assert not tiled[-1]


@pytest.mark.parametrize("gigabytes", [1, 4, 5.9])
def test_a_refusal_names_a_number_that_would_do(gigabytes: float, real: ModelSizes) -> None:
    with pytest.raises(MemoryTooSmall, match=r"the smallest that would do is (\d+\.\d) GB, with \d+\.\d GB") as refused:
        planned(real, gigabytes)
    enough = float(str(refused.value).partition("would do is ")[2].partition(" GB")[0])
    plan = planned(real, enough)
    assert plan.peak <= enough * GB
    with pytest.raises(MemoryTooSmall):
        planned(real, enough - 0.2)


def test_a_machine_with_too_little_host_memory_is_told_which_of_both_helps(real: ModelSizes) -> None:
    with pytest.raises(
        MemoryTooSmall, match=r"24\.00 GB and 8\.00 GB of host memory: with .* it needs .*, with .* none"
    ):
        planned(real, 24, host=8)


def test_more_memory_never_costs_more(real: ModelSizes) -> None:
    costs = [planned(real, gigabytes).cost for gigabytes in range(8, 72, 4)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == 0


@pytest.mark.parametrize("gigabytes", [7, 12, 16, 24, 32, 40, 48, 64])
def test_no_phase_of_a_plan_is_over_what_was_allowed(gigabytes: int, real: ModelSizes) -> None:
    plan = planned(real, gigabytes)
    assert all(size + plan.reserve <= gigabytes * GB for size in plan.phases.values())


def test_one_block_more_would_not_have_fitted(real: ModelSizes) -> None:
    plan = planned(real, 24)
    more = Arrangement(plan.arrangement.encoders, plan.arrangement.resident_blocks + 1)
    assert MemoryPlan(real, more).peak > 24 * GB


def test_on_a_cpu_host_memory_is_no_way_out(real: ModelSizes) -> None:
    plan = choose(real, Room(52 * GB, is_shared=True))
    assert plan.streamed == ()
    assert set(plan.arrangement.encoders) == {Place.DEVICE, Place.DISK}
    with pytest.raises(MemoryTooSmall, match="choose dtype bfloat16"):
        choose(real, Room(24 * GB, is_shared=True))


@pytest.mark.parametrize(("count", "resident"), [(48, 25), (48, 0), (48, 47), (5, 2), (3, 3), (3, 9), (1, 0)])
def test_streamed_blocks_are_spread_evenly(count: int, resident: int) -> None:
    chosen = spread(count, resident)
    assert len(set(chosen)) == max(0, count - resident)
    assert all(0 <= index < count for index in chosen)
    gaps = {after - before for before, after in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * GB),
        ("24 gb", 24 * GB),
        ("24", 24 * GB),
        ("1.5GiB", 3 * 2**29),
        ("500MB", 5 * 10**8),
        ("AUTO", None),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str, size: int | None) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "24TB", "-3GB", "0", "1,5GB", "24GB!"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InputInvalid, match="write auto, 24GB"):
        parse_memory(text)


def test_the_table_names_every_part_phase_and_cost(real: ModelSizes) -> None:
    table = planned(real, 24, host=38).table()
    for words in (
        *("text_encoder_4", "transformer", "vae", "denoise", "decode", "reserve", "host memory"),
        *("read from disk", "cost: each step", "blocks on the device"),
    ):
        assert words in table
    assert len({len(line) for line in table.splitlines()}) == 1


def test_sizes_read_from_headers_are_those_of_the_loaded_weights(tiny_folder: Path, tiny_engine: Engine) -> None:
    plan = plan_model(ModelSource(tiny_folder), dtype=torch.float32, room=Room(100 * GB))
    loaded = tiny_engine._loaded
    encoders = loaded.text_encoders
    for encoder, module in zip(
        plan.sizes.encoders, (encoders.clip_l, encoders.clip_g, encoders.t5, encoders.llama), strict=True
    ):
        assert encoder.part.weights == sum(parameter.nbytes for parameter in module.parameters())
    (part,) = plan.sizes.transformers
    assert part.weights == sum(parameter.nbytes for parameter in loaded.edit_transformer.parameters())
    assert part.blocks[0] == sum(
        parameter.nbytes for parameter in loaded.edit_transformer.double_stream_blocks[0].parameters()
    )
    assert plan.sizes.autoencoder.weights == sum(tensor.nbytes for tensor in loaded.autoencoder.model.parameters())


def test_what_the_stages_of_an_adapted_model_share_counts_once_while_it_is_on_the_device(
    tiny_folder: Path, tiny_adapter: Path, adapted_engine: Engine
) -> None:
    plan = plan_model(ModelSource(tiny_folder, tiny_adapter), dtype=torch.float32, room=Room(100 * GB))
    loaded = adapted_engine._loaded
    assert loaded.refine_transformer is not None
    tensors = [*loaded.edit_transformer.parameters(), *loaded.refine_transformer.parameters()]
    real = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    planned_bytes = sum(part.own_weights for part in plan.sizes.transformers)
    # With the script's own choice of patch embedder the stages share that as well; it is small.
    assert 0 <= planned_bytes - real < 0.01 * real


def test_nothing_is_read_when_nothing_would_fit(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(loading, "build", read)
    monkeypatch.setattr(library_parts, "build", read)
    monkeypatch.setattr(stage_transformers, "load_each", read)
    with pytest.raises(MemoryTooSmall, match="the smallest that would do"):
        Engine.load(tiny_folder, device="cpu", memory="0.1GB")


def test_memory_on_a_cpu_drops_encoders_where_they_do_not_fit(
    tiny_folder: Path, tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "HEADROOM_BYTES", 0)
    sizes = tiny_engine.plan.sizes
    # The autoencoder's and the transformer's working memory must not hide what encoders take.
    whole = everything_resident(sizes, reserve=0, is_shared=True)
    leaner = MemoryPlan(sizes, Arrangement((Place.DISK,) * 4, 5), 0, is_shared=True)
    assert leaner.peak < whole.peak
    told: list[str] = []
    engine = Engine.load(tiny_folder, device="cpu", memory=f"{(whole.peak - 9) / 1e6:.6f}MB", progress=told.append)
    assert Place.DISK in engine.plan.arrangement.encoders
    assert any("memory plan" in message and "text_encoder_4" in message for message in told)
    *_, ours = engine.steps(engine.begin(picture, engine.settle(short_edit())))
    *_, theirs = tiny_engine.steps(tiny_engine.begin(picture, tiny_engine.settle(short_edit())))
    assert ours.pictures == theirs.pictures


@pytest.mark.parametrize("memory", [None, "auto"])
def test_auto_keeps_everything_in_the_memory_of_a_cpu(memory: str | None, tiny_folder: Path) -> None:
    assert Engine.load(tiny_folder, device="cpu", memory=memory).plan.everything_is_resident


def test_auto_takes_what_a_gpu_has_free(real: ModelSizes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "free_bytes", lambda _: 24 * GB)
    monkeypatch.setattr(loading, "free_host_bytes", lambda: 64 * GB)
    cuda = torch.device("cuda")

    def plan(memory: str | None) -> MemoryPlan:
        return loading._planned(lambda _: real, Quantization.NONE, cuda, memory)

    assert plan(None) == plan("auto") == planned(real, 24)
    assert plan("16GB") == planned(real, 16)
    assert plan("48GB") == planned(real, 24)  # it is not there
    assert devices.free_host_bytes() > 0
