"""Every file is checked before anything is allocated, and errors say what to do."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.conftest import linked, short_edit
from tests.support.tiny_checkpoint import write_transformer

from hidream_edit.domain.errors import (
    DeviceUnavailable,
    MemoryTooSmall,
    ModelFileInvalid,
    ModelFileMissing,
    ModelGated,
    ModelNotFound,
)
from hidream_edit.domain.picture import Picture
from hidream_edit.engine import devices, folders
from hidream_edit.engine.engine import Engine


def load(folder: Path, **options: object) -> Engine:
    return Engine.load(folder, **({"device": "cpu", "dtype": "float32"} | options))  # type: ignore[arg-type]


def finished(engine: Engine, picture: Picture) -> tuple[Picture, ...]:
    *_, state = engine.steps(engine.begin(picture, engine.settle(short_edit())))
    return state.pictures


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.mark.parametrize(
    "part",
    ["transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_3"],
)
def test_a_missing_folder_is_named(part: str, copied: Path) -> None:
    shutil.rmtree(copied / part)
    with pytest.raises(ModelFileMissing, match=part):
        load(copied)


@pytest.mark.parametrize(
    "part", ["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"]
)
def test_missing_weights_are_named(part: str, copied: Path) -> None:
    next((copied / part).glob("*.safetensors")).unlink()
    with pytest.raises(ModelFileMissing, match=rf"{part}.*safetensors is missing"):
        load(copied)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "text_encoder_3"])
def test_a_file_that_was_cut_short_is_refused(part: str, copied: Path) -> None:
    file = next((copied / part).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ModelFileInvalid, match="bytes instead of"):
        load(copied)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder_2", "text_encoder_4"])
def test_a_tensor_that_is_not_there_is_named(part: str, copied: Path) -> None:
    file = next((copied / part).glob("*.safetensors"))
    tensors = load_file(file)
    lost = min(name for name in tensors if "lm_head" not in name)
    del tensors[lost]
    save_file(tensors, file)
    with pytest.raises(ModelFileInvalid, match="lacks 1 tensors"):
        load(copied)


def test_a_tensor_of_another_shape_is_refused(copied: Path) -> None:
    file = next((copied / "transformer").glob("*.safetensors"))
    tensors = load_file(file)
    tensors["final_layer.linear.bias"] = torch.zeros(3)
    save_file(tensors, file)
    with pytest.raises(ModelFileInvalid, match=r"final_layer.linear.bias is \[3\], not \[64\]"):
        load(copied)


def test_a_pickled_checkpoint_is_never_opened(copied: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (copied / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    (copied / "transformer" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelFileMissing, match="not opened: only safetensors"):
        load(copied)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"[]"]
)
def test_nonsense_in_place_of_weights_is_refused(content: bytes, copied: Path) -> None:
    (copied / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(ModelFileInvalid, match="not a safetensors file"):
        load(copied)


def test_shards_load_like_one_file(tiny_folder: Path, tmp_path: Path, picture: Picture) -> None:
    one = linked(
        tiny_folder, tmp_path / "one" if (tmp_path / "one").mkdir() is None else tmp_path, without=("transformer",)
    )
    many = linked(
        tiny_folder, tmp_path / "many" if (tmp_path / "many").mkdir() is None else tmp_path, without=("transformer",)
    )
    write_transformer(one / "transformer", seed=4)
    write_transformer(many / "transformer", seed=4, shards=3)
    assert finished(load(one), picture) == finished(load(many), picture)


def test_a_missing_shard_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path, without=("transformer",))
    write_transformer(folder / "transformer", shards=2)
    (folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelFileMissing, match="00002-of-00002"):
        load(folder)


def test_an_index_that_promises_too_much_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path, without=("transformer",))
    index = write_transformer(folder / "transformer", shards=2) / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = next(iter(content["weight_map"].values()))
    index.write_text(json.dumps(content))
    with pytest.raises(ModelFileInvalid, match="ghost"):
        load(folder)


def test_weights_stored_in_eight_bits_are_widened(tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path, without=("transformer",))
    shutil.copytree(tiny_folder / "transformer", folder / "transformer")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = "single_stream_blocks.0.block.attn1.to_q.weight"
    weight = tensors[name].float()
    scale = weight.abs().amax(1, keepdim=True) / 127
    tensors[name], tensors[f"{name}.scale"] = (weight / scale).round().to(torch.int8), scale
    save_file(tensors, file)
    loaded = load(folder)._loaded.edit_transformer.state_dict()[name]
    assert (loaded - weight).abs().max() <= scale.max() / 2 + 1e-6


def test_eight_bits_without_a_scale_are_refused(copied: Path) -> None:
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["final_layer.linear.weight"] = tensors["final_layer.linear.weight"].to(torch.int8)
    save_file(tensors, file)
    with pytest.raises(ModelFileInvalid, match="without a scale"):
        load(copied)


def test_the_fourth_encoder_may_lie_elsewhere(
    tiny_folder: Path, tmp_path: Path, tiny_engine: Engine, picture: Picture
) -> None:
    rest, llama = tmp_path / "rest", tmp_path / "llama"
    rest.mkdir()
    llama.mkdir()
    linked(tiny_folder, rest, without=("text_encoder_4", "tokenizer_4"))
    for part in ("text_encoder_4", "tokenizer_4"):
        linked(tiny_folder / part, llama, without=())
    assert finished(load(rest, text_encoder_4=llama), picture) == finished(tiny_engine, picture)


def test_without_the_fourth_encoder_the_gated_page_is_named(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from httpx import Request, Response
    from huggingface_hub.errors import GatedRepoError

    def gated(_name: str, **_: object) -> str:
        raise GatedRepoError("gated", response=Response(403, request=Request("GET", "https://hub.invalid")))

    monkeypatch.setattr("huggingface_hub.snapshot_download", gated)
    folder = linked(tiny_folder, tmp_path, without=("text_encoder_4", "tokenizer_4"))
    with pytest.raises(
        ModelGated, match=r"accept its licence at https://huggingface\.co/meta-llama/Llama-3\.1-8B-Instruct"
    ):
        load(folder)


def test_an_unknown_id_or_folder_says_so() -> None:
    with pytest.raises(ModelNotFound, match="not a folder"):
        load(Path("/nowhere/at/all"))
    with pytest.raises(ModelNotFound, match="the hub did not answer"):
        Engine.load("nobody/nothing", device="cpu")


def test_only_weights_and_texts_are_ever_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(_name: str, **options: object) -> str:
        asked.update(options)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert folders.find_folder("owner/model") == tmp_path
    assert not any(pattern.endswith((".bin", ".pt", ".py", ".pkl", "*")) for pattern in asked["allow_patterns"])


def test_too_little_memory_is_told_before_anything_loads(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _: 600 * 2**20)
    monkeypatch.setattr(devices, "HEADROOM_BYTES", 599.9 * 2**20)
    with pytest.raises(MemoryTooSmall, match="GiB are free"):
        load(copied)


@pytest.mark.parametrize("device", ["cuda:7", "tpu", "nonsense"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=device.split(":")[0]):
        devices.choose_device(device)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match="float32, bfloat16, float16"):
        devices.choose_dtype("int3", torch.device("cpu"))


def test_device_and_precision_are_chosen_by_what_is_there() -> None:
    device = devices.choose_device(None)
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert devices.choose_dtype(None, torch.device("cpu")) == torch.float32
    assert devices.choose_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_an_adapter_for_another_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    save_file({"nowhere.lora_A.default.weight": torch.zeros(4, 8)}, tmp_path / "adapter.safetensors")
    with pytest.raises(ModelFileInvalid, match="adapts nothing"):
        load(tiny_folder, adapter=tmp_path / "adapter.safetensors")


def test_an_adapter_without_its_patch_embedder_is_refused(
    tiny_folder: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    pieces = {name: tensor for name, tensor in load_file(tiny_adapter).items() if not name.startswith("x_embedder")}
    save_file(pieces, tmp_path / "adapter.safetensors")
    with pytest.raises(ModelFileInvalid, match="patch embedder"):
        load(tiny_folder, adapter=tmp_path / "adapter.safetensors")


def test_a_base_model_gives_the_full_folder_a_refine_stage(
    tiny_folder: Path, other_transformer: Path, picture: Picture
) -> None:
    engine = load(tiny_folder, base=other_transformer)
    refined = engine.settle(short_edit(refine_strength=0.5))
    *_, state = engine.steps(engine.begin(picture, refined))
    assert state.pictures != finished(engine, picture)


@pytest.mark.parametrize(
    ("key", "value"),
    [("solver_type", "bh1"), ("solver_order", 3), ("prediction_type", "epsilon"), ("_class_name", "DDIMScheduler")],
)
def test_a_sampler_that_the_engine_does_not_compute_is_refused(key: str, value: object, copied: Path) -> None:
    file = copied / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelFileInvalid, match="scheduler"):
        load(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("axes_dims_rope", [8, 4, 8]),
        ("llama_layers", [0, 1]),
        ("num_activated_experts", 9),
        ("out_channels", 8),
        ("text_emb_dim", 64),
    ],
)
def test_a_transformer_config_that_contradicts_itself_is_refused(key: str, value: object, copied: Path) -> None:
    file = copied / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelFileInvalid):
        load(copied)


def test_encoders_of_other_widths_are_refused(copied: Path) -> None:
    file = copied / "transformer" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"llama_layers": [0, 1, 2, 3, 7]}))
    with pytest.raises(ModelFileInvalid, match="reads Llama layer 7"):
        load(copied)


def test_loading_tells_what_it_does(tiny_folder: Path) -> None:
    told: list[str] = []
    load(tiny_folder, progress=told.append)
    assert told == ["checking the files", "loading the text encoders", "loading the transformer"]


def test_another_checkpoint_has_another_fingerprint(tiny_engine: Engine, other_transformer: Path) -> None:
    assert load(other_transformer).model.fingerprint != tiny_engine.model.fingerprint


def test_a_random_checkpoint_says_that_it_is_one(tiny_engine: Engine) -> None:
    assert tiny_engine.model.is_random
    assert tiny_engine.model.working_size == 64
