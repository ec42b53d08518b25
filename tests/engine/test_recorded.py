"""Forwards that are recorded once and run again give the plain numbers, whatever was recorded before."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import random_picture, relative_difference, short_edit
from tests.support.live_bytes import LiveBytes
from tests.support.tape import HostAsked, TapeRecorder
from torch import Tensor

from hidream_edit.domain.edit import Fit
from hidream_edit.domain.errors import DeviceUnavailable
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality
from hidream_edit.engine import measures as measures_module
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.engine_parts import EngineParts
from hidream_edit.engine.measures import check_recorded, has_room_to_record, measures_for
from hidream_edit.engine.memory.plan import Arrangement, Place
from hidream_edit.engine.memory.sizes import REAL_CONFIG, real_sizes
from hidream_edit.engine.model.denoiser import Denoiser
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.rebuilding import rebuild
from hidream_edit.engine.model.recorded import (
    RECORDINGS_KEPT,
    CudaRecorder,
    RecordedTransformer,
    Recordings,
)
from hidream_edit.engine.model.transformer import CanvasTooLarge, ForwardInputs, Geometry, TextTokens, Transformer
from hidream_edit.engine.quality.presets import TRADES, Trades
from hidream_edit.engine.recent import Recent
from hidream_edit.engine.state import EditState
from hidream_edit.engine.text_encoders import TEXT_ROWS

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ON_A_GPU = Measures(trims=True, one_pad=True, dead_branches=True, fused=True, grouped=True, recorded=True)
WITH_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


def load(folder: Path, adapter: Path | None, measures: Measures) -> Engine:
    return Engine.load(folder, adapter=adapter, device="cpu", dtype="float32", measures=measures.without("recorded"))


class Pair:
    """One loaded model in two engines, one of which records."""

    def __init__(self, plain: Engine) -> None:
        self.recorder = TapeRecorder()
        self.plain = plain
        self.recorded = Engine(EngineParts.of(plain._loaded, CPU, torch.float32).recorded(self.recorder))

    def assert_same(self, picture: Picture, **fields: object) -> None:
        ours, theirs = (edited(engine, picture, **fields) for engine in (self.recorded, self.plain))
        assert torch.equal(ours.solver.latents, theirs.solver.latents)
        assert ours.pictures == theirs.pictures


def edited(engine: Engine, picture: Picture, **fields: object) -> EditState:
    *_, state = engine.steps(engine.begin(picture, engine.settle(short_edit(**fields))))
    return state


@pytest.fixture(scope="module")
def plain_engine(tiny_folder: Path, tiny_adapter: Path) -> Engine:
    return load(tiny_folder, tiny_adapter, ON_A_GPU)


@pytest.fixture
def pair(plain_engine: Engine) -> Pair:
    return Pair(plain_engine)


@pytest.fixture
def transformer(plain_engine: Engine) -> Transformer:
    return plain_engine._loaded.edit_transformer


class Asked:
    """What a forward is asked, random by its seed."""

    def __init__(self, transformer: Transformer, *, seed: int = 0, branches: int = 3, columns: int = 16) -> None:
        draw = torch.Generator().manual_seed(seed)
        config = transformer.config
        layers = max(config.llama_layers) + 1
        self.canvas = torch.randn(branches, config.in_channels, 8, columns, generator=draw)
        self.timesteps = torch.full((branches,), 700.0 - 100 * seed)
        t5 = torch.randn(branches, 5, config.caption_channels[0], generator=draw)
        llama = torch.randn(layers, branches, 7, config.caption_channels[1], generator=draw)
        self.text: TextTokens = transformer.project_text(t5, llama)
        self.pooled = torch.randn(branches, config.text_emb_dim, generator=draw)

    def of(self, transformer: Denoiser, **options: Any) -> Tensor:
        return transformer(ForwardInputs(self.canvas, self.timesteps, self.text, self.pooled, **options))


# Whole edits


@pytest.mark.parametrize("size", [(64, 64), (48, 64)], ids=["square", "padded"])
def test_an_edit_with_both_stages_is_the_plain_one_to_the_bit(pair: Pair, size: tuple[int, int]) -> None:
    fields = {"fit": Fit.NATIVE, "refine_strength": 0.5, "num_inference_steps": 4}
    pair.assert_same(random_picture(*size, seed=3), **fields)
    assert (pair.recorder.recorded, pair.recorder.replayed) == (2, 4)


def test_requests_of_one_shape_use_one_recording_whatever_they_say(pair: Pair) -> None:
    for seed, words in enumerate(("make it night", "a pencil sketch", "low resolution")):
        fields = {"edit_instruction": words, "target_image_description": words, "seed": seed, "refine_strength": 0.0}
        pair.assert_same(random_picture(64, 64, seed=seed), **fields)
    assert pair.recorder.recorded == 1


def test_modulations_that_were_made_ahead_are_not_baked_in(tiny_folder: Path) -> None:
    pair = Pair(load(tiny_folder, None, Measures(ahead=True, grouped=True)))
    for words in ("make it night", "a pencil sketch"):
        pair.assert_same(random_picture(64, 64), edit_instruction=words, num_inference_steps=4)
    assert pair.recorder.recorded == 1


@pytest.mark.parametrize("one_by_one", [False, True])
def test_steps_and_branches_that_are_left_out_leave_the_recorded_ones_alone(
    tiny_folder: Path, one_by_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(load(tiny_folder, None, Measures(grouped=True, one_by_one=one_by_one)))
    eager = Trades(tolerance=1e9, skips_max=1, guided_every=2)
    for engine in (pair.plain, pair.recorded):
        monkeypatch.setattr(engine, "trades", {**TRADES, Quality.TURBO: eager})
    for quality in (Quality.TURBO, Quality.EXACT, Quality.TURBO):
        pair.assert_same(random_picture(64, 64), num_inference_steps=10, quality=quality)
    assert pair.recorder.recorded == (1 if one_by_one else 2)  # all branches, and one alone


# Recordings


def test_the_plain_transformer_is_what_is_recorded(transformer: Transformer) -> None:
    recorded = RecordedTransformer(transformer, Recordings(TapeRecorder()))
    for seed in range(3):
        asked = Asked(transformer, seed=seed)
        for columns in (8, None):
            assert torch.equal(asked.of(recorded, noise_columns=columns), asked.of(transformer, noise_columns=columns))
    assert recorded.config is transformer.config


def test_another_shape_is_another_recording(transformer: Transformer) -> None:
    recorder = TapeRecorder()
    recorded = RecordedTransformer(transformer, Recordings(recorder))
    shapes = [{"branches": 3}, {"branches": 1}, {"columns": 12}, {"columns": 8}]
    for _ in range(2):
        for number, shape in enumerate(shapes):
            asked = Asked(transformer, seed=number, **shape)
            assert torch.equal(asked.of(recorded), asked.of(transformer))
    assert recorder.recorded == recorder.living == len(shapes)


def test_two_transformers_share_recordings_and_do_not_mix_them_up(plain_engine: Engine) -> None:
    both = plain_engine._loaded.edit_transformer, plain_engine._loaded.refine_transformer
    recordings = Recordings(TapeRecorder())
    asked = Asked(both[0])
    outputs = [asked.of(RecordedTransformer(each, recordings)) for each in both]
    assert len(recordings) == 2
    assert all(torch.equal(output, asked.of(each)) for output, each in zip(outputs, both, strict=True))
    assert not torch.equal(*outputs)


def test_a_later_step_does_not_change_an_earlier_result(transformer: Transformer) -> None:
    recorded = RecordedTransformer(transformer, Recordings(TapeRecorder()))
    first = Asked(transformer, seed=0).of(recorded)
    then = first.clone()
    Asked(transformer, seed=1).of(recorded)
    Asked(transformer, seed=2, branches=1).of(recorded)
    assert torch.equal(first, then)


def test_what_was_given_may_be_changed_and_forgotten_afterwards(transformer: Transformer) -> None:
    recorded = RecordedTransformer(transformer, Recordings(TapeRecorder()))
    asked, again = Asked(transformer), Asked(transformer)
    asked.of(recorded)
    forgotten = weakref.ref(asked.text.llama[0])
    for tensor in (asked.canvas, asked.timesteps, asked.pooled, asked.text.t5, *asked.text.llama):
        tensor.fill_(torch.nan)
    del asked, tensor
    assert forgotten() is None
    assert torch.equal(again.of(recorded), again.of(transformer))


def test_inputs_may_lie_in_memory_as_they_like(transformer: Transformer) -> None:
    recorded = RecordedTransformer(transformer, Recordings(TapeRecorder()))
    asked = Asked(transformer, branches=2)
    asked.canvas = asked.canvas[:1].expand(2, -1, -1, -1)  # as the refine stage gives it
    assert torch.equal(asked.of(recorded), asked.of(transformer))
    asked.canvas = asked.canvas.contiguous(memory_format=torch.channels_last)
    assert torch.equal(asked.of(recorded), asked.of(transformer))


def test_when_there_are_too_many_all_are_freed_and_none_is_wrong(transformer: Transformer) -> None:
    recorder = TapeRecorder()
    recordings = Recordings(recorder, count_max=2)
    recorded = RecordedTransformer(transformer, recordings)
    held = []
    for branches in (1, 2, 3, 1, 2):
        asked = Asked(transformer, seed=branches, branches=branches)
        held.append((asked.of(recorded), asked.of(transformer)))
        assert recorder.living == len(recordings) <= 2
    assert recorder.recorded == 5
    assert all(torch.equal(ours, theirs) for ours, theirs in held)


def test_a_recording_keeps_what_the_transformer_forgets_about_its_canvas(
    transformer: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometries: Recent[tuple[object, ...], Geometry] = Recent(1)
    monkeypatch.setattr(transformer, "_geometries", geometries)

    def holding_nothing(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        output = compute()
        return lambda: output

    recordings = Recordings(holding_nothing)
    recorded = RecordedTransformer(transformer, recordings)
    Asked(transformer, columns=16).of(recorded)
    (geometry,) = geometries._values.values()
    angles = weakref.ref(geometry.layout.rotation.cos)
    Asked(transformer, columns=12).of(recorded)
    assert all(kept is not geometry for kept in geometries._values.values())
    del geometry
    assert angles() is not None
    del recorded, recordings
    assert angles() is None


def test_it_records_with_and_without_inference_mode(transformer: Transformer) -> None:
    recorded = RecordedTransformer(transformer, Recordings(TapeRecorder()))
    asked = Asked(transformer)
    with torch.inference_mode():
        inside = asked.of(recorded)
    with torch.no_grad():
        assert torch.equal(asked.of(recorded), inside)


def test_what_cannot_be_computed_leaves_no_recording(transformer: Transformer) -> None:
    recordings = Recordings(TapeRecorder())
    with pytest.raises(CanvasTooLarge):
        Asked(transformer, columns=40).of(RecordedTransformer(transformer, recordings))
    assert len(recordings) == 0


def test_experts_that_ask_the_host_cannot_be_recorded(tiny_engine: Engine) -> None:
    transformer = tiny_engine._loaded.edit_transformer
    with pytest.raises(HostAsked):
        Asked(transformer).of(RecordedTransformer(transformer, Recordings(TapeRecorder())))


# Whether it can be had


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "measures", "why"),
    [
        ("cpu", torch.float32, None, ON_A_GPU, "needs a CUDA device"),
        ("mps", torch.float32, None, ON_A_GPU, "needs a CUDA device"),
        ("cuda", torch.bfloat16, (9, 0), ON_A_GPU.without("grouped"), "unless grouped"),
        ("cuda", torch.bfloat16, (8, 9), ON_A_GPU, "Hopper or Blackwell"),
        ("cuda", torch.float32, (9, 0), ON_A_GPU, "bfloat16"),
    ],
)
def test_recording_is_refused_where_the_host_would_be_asked(
    device: str,
    dtype: torch.dtype,
    capability: tuple[int, int] | None,
    measures: Measures,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with pytest.raises(DeviceUnavailable, match=why):
        check_recorded(measures, torch.device(device), dtype)
    check_recorded(measures.without("recorded"), torch.device(device), dtype)


@pytest.mark.parametrize("capability", [(9, 0), (10, 0)])
def test_recording_is_allowed_where_products_are_grouped_on_the_device(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    check_recorded(ON_A_GPU, CUDA, torch.bfloat16)


def test_an_engine_refuses_before_it_loads(tmp_path: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="recorded cannot be had"):
        Engine.load(tmp_path / "nothing", device="cpu", measures=ON_A_GPU)


def test_it_is_nowhere_a_default() -> None:
    assert not measures_for(CPU, torch.float32).recorded
    assert not PLAIN.recorded


def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[TapeRecorder]:
    """Recorders that engines make from now on."""
    made: list[TapeRecorder] = []

    def make(device: torch.device) -> TapeRecorder:
        del device
        made.append(TapeRecorder())
        return made[-1]

    monkeypatch.setattr(measures_module, "check_recorded", lambda *_: None)
    monkeypatch.setattr(measures_module, "CudaRecorder", make)
    return made


def test_an_engine_that_is_asked_to_records(
    tiny_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = as_if_on_a_gpu(monkeypatch)
    engine = Engine.load(tiny_folder, device="cpu", dtype="float32", measures=ON_A_GPU)
    edited(engine, picture)
    assert [recorder.recorded for recorder in made] == [1]
    Engine.load(tiny_folder, device="cpu", dtype="float32", measures=ON_A_GPU, float8="emulated")
    Engine.load(tiny_folder, device="cpu", dtype="float32", measures=ON_A_GPU.without("recorded"))
    assert len(made) == 1


@pytest.mark.parametrize("memory", ["4GB", Arrangement((Place.DEVICE,) * 4, 2)], ids=["an amount", "streamed"])
def test_an_engine_whose_memory_is_wanted_says_that_it_does_not_record(
    tiny_folder: Path, picture: Picture, memory: str | Arrangement, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = as_if_on_a_gpu(monkeypatch), []
    options = {"device": "cpu", "dtype": "float32", "measures": ON_A_GPU, "memory": memory}
    edited(Engine.load(tiny_folder, progress=said.append, **options), picture)
    assert made == []
    assert "steps are not recorded as CUDA graphs: there is no memory for it" in said


def test_recordings_have_room_of_their_own(plain_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plain_engine.plan
    sizes = plan.sizes
    working = plan.peak - plan.standing + sizes.cached
    recordings = sizes.step + RECORDINGS_KEPT * sizes.texts // 2
    for free, there in ((working, False), (working + recordings, False), (working + recordings + 1, True)):
        monkeypatch.setattr(measures_module, "free_bytes", lambda _, free=free: free)
        assert has_room_to_record(plan, CPU) is there


def test_what_a_recording_of_the_real_size_holds_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    half = {"dtype": torch.bfloat16, "device": "meta"}
    with torch.device("meta"):
        transformer = rebuild(Transformer(REAL_CONFIG, ON_A_GPU).bfloat16().eval().requires_grad_(False))
    monkeypatch.setattr(transformer, "attend", lambda query, *_: torch.empty_like(query))  # one kernel on a GPU
    with torch.inference_mode():
        text = transformer.project_text(
            torch.empty(3, TEXT_ROWS, 4096, **half), torch.empty(32, 3, TEXT_ROWS, 4096, **half)
        )
        with LiveBytes() as alive:
            transformer(
                ForwardInputs(
                    torch.empty(3, 16, 96, 192, **half),
                    torch.empty(3, device="meta"),
                    text,
                    torch.empty(3, 2048, **half),
                    noise_columns=96,
                )
            )
    sizes = real_sizes()
    assert 0.9 * sizes.step < alive.peak <= sizes.step
    assert text.t5.nbytes + sum(layer.nbytes for layer in text.llama) <= sizes.texts // 2


# CUDA


def test_a_graph_is_recorded_after_a_run_for_real_into_the_memory_of_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    class Graph:
        def pool(self) -> str:
            return f"pool of {id(self)}"

        def replay(self) -> None:
            told.append("replay")

    class Stream:
        def wait_stream(self, other: object) -> None:
            told.append("side waits" if other is main else "main waits")

    @contextlib.contextmanager
    def capture(graph: Graph, *, pool: str | None, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        del graph, stream, capture_error_mode
        told.append(f"record, {pool}")
        yield

    main = Stream()
    fakes = {
        "CUDAGraph": Graph,
        "Stream": lambda _: Stream(),
        "current_stream": lambda: main,
        "device": contextlib.nullcontext,
        "stream": contextlib.nullcontext,
        "graph": capture,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def compute() -> Tensor:
        told.append("compute")
        return torch.zeros(1)

    record = CudaRecorder(CUDA)
    first = record(compute)
    assert told == ["side waits", "compute", "main waits", "record, None", "compute"]
    assert first() is first()
    (graph,) = record._graphs
    second = record(compute)
    assert f"record, {graph.pool()}" in told
    del first, second, graph
    told.clear()
    record(compute)
    assert "record, None" in told  # memory that no graph is left of is not asked for


# On a GPU: `make test-gpu`


@pytest.mark.gpu
@WITH_A_GPU
def test_cuda_graphs_compute_over_their_buffers_and_share_memory() -> None:
    record = CudaRecorder(CUDA)
    given = torch.zeros(1024, 1024, device=CUDA)
    weight = torch.randn(1024, 1024, device=CUDA)
    first = record(lambda: (given @ weight).relu() @ weight)
    second = record(lambda: (given @ weight).tanh() @ weight)
    assert len(record._graphs) == 2
    assert len({graph.pool() for graph in record._graphs}) == 1
    for seed in range(3):
        given.copy_(torch.randn(given.shape, generator=torch.Generator().manual_seed(seed)))
        ours = first().clone(), second().clone(), first().clone()
        relu, tanh = ((given @ weight).relu() @ weight, (given @ weight).tanh() @ weight)
        for replayed, plain in zip(ours, (relu, tanh, relu), strict=True):
            assert torch.allclose(replayed, plain, rtol=1e-4, atol=1e-2)


@pytest.mark.gpu
@WITH_A_GPU
def test_an_edit_that_is_recorded_on_a_gpu_is_the_plain_one(tiny_folder: Path, tiny_adapter: Path) -> None:
    try:
        check_recorded(ON_A_GPU, CUDA, torch.bfloat16)
    except DeviceUnavailable as refused:
        pytest.skip(str(refused))
    plain, recorded = (
        Engine.load(tiny_folder, adapter=tiny_adapter, device="cuda", dtype="bfloat16", measures=measures)
        for measures in (ON_A_GPU.without("recorded"), ON_A_GPU)
    )
    denoiser = recorded._stages._denoisers.edit
    assert isinstance(denoiser, RecordedTransformer)
    denoiser._recordings._count_max = 3  # so that some are dropped on the way
    for number, size in enumerate([(64, 64), (48, 64), (32, 64), (64, 64), (64, 48)]):
        picture = random_picture(*size, seed=number)
        fields = {"fit": Fit.NATIVE, "refine_strength": 0.5, "num_inference_steps": 4, "seed": number}
        ours, theirs = (edited(engine, picture, **fields) for engine in (recorded, plain))
        assert relative_difference(ours.solver.latents, theirs.solver.latents) <= 1e-3
        again = edited(recorded, picture, **fields)
        assert torch.equal(again.solver.latents, ours.solver.latents)
