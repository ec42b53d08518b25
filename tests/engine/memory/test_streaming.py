"""Weights that come to the device only while they compute give the same numbers, to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.engine.conftest import random_picture, short_edit
from torch import nn

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.picture import Picture
from hidream_edit.engine import library_parts
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.memory.plan import Arrangement, Place
from hidream_edit.engine.memory.streaming import BlockStream, FromDisk, FromHost, HostWeights, Slots, blocks_of
from hidream_edit.engine.state import EditState

CPU = torch.device("cpu")
ON_DEVICE, IN_HOST, ON_DISK = ((place,) * 4 for place in Place)
STREAMED = [
    pytest.param(Arrangement(ON_DEVICE, resident), id=f"{resident} blocks stay") for resident in (0, 1, 2, 3, 4)
]


def load(folder: Path | None, arrangement: Arrangement | None, **options: object) -> Engine:
    return Engine.load(folder, device="cpu", dtype="float32", memory=arrangement, **options)  # type: ignore[arg-type]


def finished(engine: Engine, picture: Picture, edit_input: EditInput) -> EditState:
    *_, state = engine.steps(engine.begin(picture, engine.settle(edit_input)))
    return state


def assert_same(ours: EditState, theirs: EditState) -> None:
    assert torch.equal(ours.solver.latents, theirs.solver.latents)
    assert ours.pictures == theirs.pictures


def streams_of(engine: Engine) -> list[BlockStream]:
    """Found through the hooks on the blocks of the edit transformer."""
    blocks = [layer.block for layer in blocks_in_order(engine)]
    hooks = [hook for block in blocks for hook in block._forward_pre_hooks.values()]
    streams = {id(cell.cell_contents): cell.cell_contents for hook in hooks for cell in hook.__closure__}
    return [stream for stream in streams.values() if isinstance(stream, BlockStream)]


def blocks_in_order(engine: Engine) -> list[nn.Module]:
    transformer = engine._loaded.edit_transformer
    return [*transformer.double_stream_blocks, *transformer.single_stream_blocks]


@pytest.mark.parametrize("arrangement", STREAMED)
def test_a_streamed_transformer_gives_the_same_bits(
    arrangement: Arrangement, tiny_folder: Path, tiny_engine: Engine, picture: Picture
) -> None:
    streamed = load(tiny_folder, arrangement)
    edit = short_edit(num_inference_steps=3)
    assert_same(finished(streamed, picture, edit), finished(tiny_engine, picture, edit))


@pytest.mark.parametrize("places", [IN_HOST, ON_DISK, (*ON_DEVICE[:2], Place.HOST, Place.DISK)])
def test_encoders_that_are_elsewhere_give_the_same_bits(
    places: tuple[Place, ...], tiny_folder: Path, tiny_engine: Engine
) -> None:
    engine = load(tiny_folder, Arrangement(places, 5))
    for text in ("make it a pencil sketch", "", "night " * 200):
        ours, cut = engine._loaded.text_encoders.encode(text)
        theirs, theirs_cut = tiny_engine._loaded.text_encoders.encode(text)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert cut == theirs_cut


@pytest.mark.parametrize("resident", [0, 3])
def test_both_stages_of_an_adapted_model_stream_through_the_same_slots(
    resident: int, tiny_folder: Path, tiny_adapter: Path, adapted_engine: Engine, picture: Picture
) -> None:
    engine = load(tiny_folder, Arrangement(IN_HOST, resident), adapter=tiny_adapter)
    edit = short_edit(num_inference_steps=4, refine_strength=0.5, num_images=2)
    assert_same(finished(engine, picture, edit), finished(adapted_engine, picture, edit))
    slots = {id(stream.slots) for stream in streams_of(engine)}
    assert len(slots) == 1


def test_a_base_for_the_refine_stage_streams_too(tiny_folder: Path, other_transformer: Path, picture: Picture) -> None:
    edit = short_edit(num_inference_steps=4, refine_strength=0.5)
    whole = load(tiny_folder, None, base=other_transformer)
    streamed = load(tiny_folder, Arrangement(ON_DEVICE, 1), base=other_transformer)
    assert_same(finished(streamed, picture, edit), finished(whole, picture, edit))


def test_a_padded_canvas_streams_too(tiny_folder: Path, tiny_engine: Engine) -> None:
    from hidream_edit.domain.edit import Fit

    picture, edit = random_picture(48, 64), short_edit(fit=Fit.NATIVE)
    assert_same(
        finished(load(tiny_folder, Arrangement(IN_HOST, 0)), picture, edit), finished(tiny_engine, picture, edit)
    )


def test_the_mini_model_gives_the_same_picture_when_nothing_of_it_stays() -> None:
    picture, edit = random_picture(96, 80), EditInput(edit_instruction="make it night", seed=1)
    whole, moving = load(None, None), load(None, Arrangement(IN_HOST, 0))
    assert_same(finished(moving, picture, edit), finished(whole, picture, edit))
    assert not moving.plan.everything_is_resident


def test_a_state_goes_on_under_another_plan_to_the_same_bytes(
    tiny_folder: Path, tiny_engine: Engine, picture: Picture
) -> None:
    streamed = load(tiny_folder, Arrangement(ON_DISK, 0))
    settings = tiny_engine.settle(short_edit(num_inference_steps=3))
    begun = tiny_engine.advance(tiny_engine.begin(picture, settings))
    *_, here = tiny_engine.steps(begun)
    *_, there = streamed.steps(EditState.from_bytes(begun.to_bytes()))
    assert_same(here, there)


def test_an_edit_that_is_left_in_the_middle_does_not_disturb_the_next(
    tiny_folder: Path, tiny_engine: Engine, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(tiny_folder, Arrangement(ON_DEVICE, 0))
    state = engine.begin(picture, engine.settle(short_edit()))
    block = blocks_in_order(engine)[2].block

    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as broken:
        broken.setattr(block, "forward", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            engine.advance(state)
    assert_same(finished(engine, picture, short_edit()), finished(tiny_engine, picture, short_edit()))


def test_one_edit_copies_each_streamed_block_once_per_step(tiny_folder: Path, picture: Picture) -> None:
    engine = load(tiny_folder, Arrangement(ON_DEVICE, 2))
    (stream,) = streams_of(engine)
    finished(engine, picture, short_edit(num_inference_steps=5, guidance_scale=1.0))
    # The first blocks of a step that never comes are fetched too: whether there is one is not known here.
    ahead = stream.nbytes * 6
    assert stream.nbytes * 5 <= stream.bytes_copied < ahead
    assert stream.nbytes >= engine.plan.bus_bytes_per_step


def test_a_second_edit_with_the_same_words_loads_nothing(
    tiny_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    build = library_parts.build
    monkeypatch.setattr(library_parts, "build", lambda part, *rest: (loads.append(part.name), build(part, *rest))[1])
    engine = load(tiny_folder, Arrangement(ON_DISK, 5))
    assert loads == []
    finished(engine, picture, short_edit())
    encoders = ["text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"]
    assert loads == 2 * encoders  # the prompt and the negative prompt
    finished(engine, random_picture(64, 64, seed=9), short_edit(seed=8, image_guidance_scale=3.0))
    assert len(loads) == 8
    finished(engine, picture, short_edit(edit_instruction="make it a pencil"))
    assert loads[8:] == encoders


def test_one_branch_reads_one_text(tiny_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(tiny_folder, None)
    read: list[str] = []
    encode = type(engine._loaded.text_encoders).encode
    monkeypatch.setattr(
        type(engine._loaded.text_encoders), "encode", lambda self, text: (read.append(text), encode(self, text))[1]
    )
    state = finished(engine, picture, short_edit(guidance_scale=1.0, negative_prompt="never read"))
    assert read == [state.prompt]


def test_weights_in_one_run_of_bytes_keep_their_values_and_their_ties() -> None:
    module = nn.ModuleDict({"a": nn.Linear(5, 3), "b": nn.Linear(5, 3, bias=False), "narrow": nn.Linear(2, 2)})
    module["narrow"].bfloat16()
    module["b"].weight = module["a"].weight
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    held = HostWeights([*module.modules()], pinned=False)
    assert held.nbytes % 256 == 0
    assert module["a"].weight is module["b"].weight
    room = torch.zeros(held.nbytes + 64, dtype=torch.uint8)
    held.copy_to(room)
    there = held.parameters_in(room)
    held.use(there)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module["a"].weight is there[0]
    held.return_home()
    assert module["a"].weight is not there[0]
    assert {name: tensor.dtype for name, tensor in module.state_dict().items()} == {
        name: tensor.dtype for name, tensor in before.items()
    }


@pytest.mark.parametrize("slots", [1, 2, 3, 7])
@pytest.mark.parametrize("around", [True, False])
def test_any_number_of_slots_gives_the_same_result(slots: int, around: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4) for _ in range(5)]
    whole = nn.Sequential(*layers)
    start = torch.randn(2, 4)
    expected = [whole(start), whole(2 * start)]
    stream = BlockStream(layers, pinned=False, around=around)
    stream.slots = Slots(CPU, stream.largest, slots)
    with torch.inference_mode():
        assert torch.equal(whole(start), expected[0])
        assert torch.equal(whole(2 * start), expected[1])


def test_blocks_are_not_called_without_their_slots() -> None:
    layer = nn.Linear(2, 2)
    BlockStream([layer], pinned=False, around=True)
    with pytest.raises(RuntimeError, match="slots were closed"):
        layer(torch.zeros(1, 2))


def test_a_loan_leaves_nothing_on_the_device() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])[0])
    lender = FromHost(module, CPU)
    home = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    with lender.lent():
        assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} != home
    assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == home


def test_a_loan_from_disk_ends_with_the_module() -> None:
    import weakref

    made = []

    def read() -> nn.Module:
        module = nn.Linear(2, 2)
        made.append(weakref.ref(module))
        return module

    lender = FromDisk(read, CPU)
    for _ in range(2):
        with lender.lent() as module:
            module(torch.zeros(1, 2))
        del module
    assert [one() for one in made] == [None, None]


def test_the_blocks_of_a_module_are_its_heaviest_list() -> None:
    module = nn.ModuleDict(
        {"small": nn.ModuleList([nn.Linear(2, 2)] * 3), "large": nn.ModuleList([nn.Linear(9, 9), nn.Linear(9, 9)])}
    )
    assert blocks_of(module) == list(module["large"])
    assert blocks_of(nn.Linear(2, 2)) == []
