"""From a model folder to weights on a device: verify everything, then allocate."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hidream_edit.domain.edit import EditDefaults
from hidream_edit.domain.errors import ModelFileInvalid
from hidream_edit.engine.adapter import DOWN, REPLACED, UP, adapted_weight, merge, read_adapter
from hidream_edit.engine.cards import ModelCard, read_defaults, read_vocabulary
from hidream_edit.engine.devices import HEADROOM_BYTES, check_memory, free_bytes, free_host_bytes
from hidream_edit.engine.folders import ModelFolder, find_folder, llama_folders, read_json
from hidream_edit.engine.latents import Autoencoder
from hidream_edit.engine.memory.activations import TextSizes, text_bytes
from hidream_edit.engine.memory.placing import placed_encoder, stream_blocks, streamed_names
from hidream_edit.engine.memory.plan import (
    HOST_RESERVE_BYTES,
    RESERVE_BYTES,
    Arrangement,
    MemoryPlan,
    Room,
    choose,
    everything_resident,
    parse_memory,
)
from hidream_edit.engine.memory.sizes import (
    AutoencoderNeeds,
    Encoder,
    ModelSizes,
    Part,
    autoencoder_needs,
    needs_of_steps,
    part_of,
)
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.rebuilding import rebuild
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.safetensors_files import (
    TOLD_BYTES_MIN,
    TensorHeader,
    check_against,
    find_weights,
    fingerprint_of,
    load_each,
    told_rate,
)
from hidream_edit.engine.schedule import sampler_kind
from hidream_edit.engine.text_encoders import TEXT_ROWS, TextEncoders, Tokenizers

logger = logging.getLogger(__name__)

PatchEmbedderOf = Literal["e1", "i1"]
Progress = Callable[[str], None]

# The text-to-image base is configured for a square of 1024 pixels; the adapter was trained on the double canvas of
# 768, and every script that puts it on the base overwrites the length by hand (model.md 2.1).
BASE_RESOLUTION, ADAPTED_RESOLUTION = (128, 128), (96, 192)
ADAPTED_REFINE_STRENGTH = 0.3


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything that an edit computes with. Nothing in it is ever changed."""

    card: ModelCard
    text_encoders: TextEncoders
    autoencoder: Autoencoder
    edit_transformer: Transformer
    refine_transformer: Transformer | None
    scheduler_config: Mapping[str, Any]
    plan: MemoryPlan


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What to load. ``base`` is I1-Full, for a refine tail after the full E1 folder."""

    model: str | Path
    adapter: str | Path | None = None
    base: str | Path | None = None
    text_encoder_4: str | Path | None = None
    refine_patch_embedder: PatchEmbedderOf = "e1"


@dataclass(frozen=True, slots=True)
class _Component:
    """One part that a library builds: its class, its folder, and the tensors that were found for it."""

    name: str
    library_class: Any
    folder: Path
    headers: Mapping[str, TensorHeader]


@dataclass(frozen=True, slots=True)
class _CheckedTransformers:
    """The transformers of a model, whose files were looked at and not read."""

    config: TransformerConfig
    headers: Mapping[str, TensorHeader]
    adapter: Mapping[str, TensorHeader] | None
    base: Mapping[str, TensorHeader] | None


@dataclass(frozen=True, slots=True)
class _Checked(_CheckedTransformers):
    """A model whose files were all looked at, and none of whose weights was read."""

    folder: ModelFolder
    components: list[_Component]
    scheduler_config: Mapping[str, Any]
    card: ModelCard


def load_model(
    source: ModelSource,
    *,
    device: torch.device,
    dtype: torch.dtype,
    memory: str | Arrangement | None = None,
    measures: Measures = PLAIN,
    progress: Progress = lambda _: None,
) -> LoadedModel:
    """Load a model.

    Raises:
        ModelUnusable: one of its subclasses says what is wrong and what to do; nothing was allocated then.
    """
    progress("checking the files")
    found = _check(source)
    plan = _planned(_sizes(found, dtype), device, memory)
    if plan.streamed:
        measures = measures.without("ahead")  # it asks blocks for their weights out of turn
    if not plan.everything_is_resident:
        progress(f"memory plan\n{plan.table()}")

    progress("loading the text encoders")
    tokenizers = _load_tokenizers(found.folder, source.text_encoder_4)
    with _quiet_libraries():
        clip_l, clip_g, t5, llama = (
            placed_encoder(_reader(part, dtype, progress), place, device)
            for part, place in zip(_encoders_of(found), plan.arrangement.encoders, strict=True)
        )
        (vae,) = (part for part in found.components if part.name == "vae")
        model = _build(vae, device, dtype)
    progress("loading the transformer")
    edit, refine = _load_transformers(found, source.refine_patch_embedder, plan, device, dtype, measures, progress)
    stream_blocks([edit] if refine is None else [edit, refine], plan, device)
    if measures.channels_last:
        model.to(memory_format=torch.channels_last)
    autoencoder = Autoencoder.of(model)
    working_size = found.config.max_resolution[0] * autoencoder.factor
    if plan.arrangement.tiled:
        autoencoder = replace(autoencoder, tile=found.config.max_resolution[0] // 2)
    return LoadedModel(
        card=replace(found.card, working_size=working_size),
        text_encoders=TextEncoders(tokenizers, clip_l, clip_g, t5, llama, device=device),
        autoencoder=autoencoder,
        edit_transformer=edit,
        refine_transformer=refine,
        scheduler_config=found.scheduler_config,
        plan=plan,
    )


def load_transformers(
    source: ModelSource,
    *,
    device: torch.device,
    dtype: torch.dtype,
    memory: str | None = None,
    measures: Measures = PLAIN,
    progress: Progress = lambda _: None,
) -> list[Transformer]:
    """Those of the edit stage and, where the model has one, of the refine stage: all that a rank other than 0 needs.

    Raises:
        ModelUnusable: see `load_model`.
    """
    folder = ModelFolder(find_folder(source.model))
    found = _check_transformers(source, folder)
    parts = _transformer_parts(found, dtype)
    layers = max(found.config.llama_layers) + 1
    step, texts, _ = needs_of_steps(found.config, llama_layers=layers, item=dtype.itemsize)
    sizes = ModelSizes(folder.path.name, (), tuple(parts), AutoencoderNeeds(0, 0, 0, 0, 0), step, texts, 0)
    plan = _planned(sizes, device, memory)
    edit, refine = _load_transformers(found, source.refine_patch_embedder, plan, device, dtype, measures, progress)
    transformers = [edit] if refine is None else [edit, refine]
    stream_blocks(transformers, plan, device)
    return transformers


def plan_model(source: ModelSource, *, dtype: torch.dtype, room: Room) -> MemoryPlan:
    """The plan that loading would follow, from the headers of the files alone.

    Raises:
        ModelUnusable: see `load_model`.
    """
    return choose(_sizes(_check(source), dtype), room)


def _planned(sizes: ModelSizes, device: torch.device, memory: str | Arrangement | None) -> MemoryPlan:
    """The plan for what the device has, or for what may be used of it."""
    is_shared = device.type != "cuda"
    reserve = HEADROOM_BYTES if is_shared else RESERVE_BYTES
    if isinstance(memory, Arrangement):
        return MemoryPlan(sizes, memory, reserve, is_shared)
    allowed = None if memory is None else parse_memory(memory)
    if allowed is None and is_shared:
        check_memory(sizes.weights, device)
        return everything_resident(sizes, reserve=reserve, is_shared=is_shared)
    free = free_bytes(device)
    room = Room(
        free if allowed is None else min(allowed, free), free_host_bytes() - HOST_RESERVE_BYTES, is_shared, reserve
    )
    return choose(sizes, room)


def _check(source: ModelSource) -> _Checked:
    folder = ModelFolder(find_folder(source.model))
    found = _check_transformers(source, folder)
    scheduler_config = read_json(folder.component("scheduler") / "scheduler_config.json")
    sampler_kind(scheduler_config)
    components = _find_components(folder, source.text_encoder_4)
    _check_widths(found.config, components)
    defaults = EditDefaults(refine_strength=ADAPTED_REFINE_STRENGTH if found.adapter else 0.0)
    card = _card(folder.path, source, found.config, defaults, found.headers, components)
    return _Checked(found.config, found.headers, found.adapter, found.base, folder, components, scheduler_config, card)


def _check_transformers(source: ModelSource, folder: ModelFolder) -> _CheckedTransformers:
    transformer_folder = folder.component("transformer")
    config = _transformer_config(transformer_folder, has_adapter=source.adapter is not None)
    headers = find_weights(transformer_folder, "diffusion_pytorch_model")
    needed = _shapes_of(Transformer, config)
    check_against(headers, needed, where=transformer_folder)
    adapter = read_adapter(Path(source.adapter).expanduser(), needed) if source.adapter is not None else None
    return _CheckedTransformers(config, headers, adapter, _base_headers(source, needed))


def _encoders_of(found: _Checked) -> list[_Component]:
    return [part for part in found.components if part.name != "vae"]


def _transformer_config(folder: Path, *, has_adapter: bool) -> TransformerConfig:
    try:
        config = TransformerConfig.from_json(read_json(folder / "config.json"))
    except ValueError as problem:
        raise ModelFileInvalid(f"{folder / 'config.json'}: {problem}") from problem
    if has_adapter and config.max_resolution == BASE_RESOLUTION:
        return replace(config, max_resolution=ADAPTED_RESOLUTION)
    return config


def _base_headers(source: ModelSource, needed: Mapping[str, tuple[int, ...]]) -> dict[str, TensorHeader] | None:
    if source.base is None:
        return None
    folder = ModelFolder(find_folder(source.base, parts=("transformer",))).component("transformer")
    headers = find_weights(folder, "diffusion_pytorch_model")
    check_against(headers, needed, where=folder)
    return headers


def _shapes_of(build: Callable[..., nn.Module], *arguments: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a module, without allocating it."""
    with torch.device("meta"):
        module = build(*arguments)
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _find_components(folder: ModelFolder, text_encoder_4: str | Path | None) -> list[_Component]:
    import diffusers  # slow to import
    import transformers

    vae_folder = folder.component("vae")
    vae_class = read_json(vae_folder / "config.json").get("_class_name", "AutoencoderKL")
    if vae_class not in ("AutoencoderKL", "AutoencoderDC"):
        raise ModelFileInvalid(f"{vae_folder}: {vae_class} is not an autoencoder that this engine runs")
    llama_folder, _ = llama_folders(folder, text_encoder_4)
    clip = transformers.CLIPTextModelWithProjection
    with _quiet_libraries():
        return [
            _checked("text_encoder", clip, folder.component("text_encoder"), "model"),
            _checked("text_encoder_2", clip, folder.component("text_encoder_2"), "model"),
            _checked("text_encoder_3", transformers.T5EncoderModel, folder.component("text_encoder_3"), "model"),
            _checked("text_encoder_4", transformers.LlamaModel, llama_folder, "model"),
            _checked("vae", getattr(diffusers, vae_class), vae_folder, "diffusion_pytorch_model"),
        ]


def _checked(name: str, library_class: Any, folder: Path, stem: str) -> _Component:
    """Find a component's tensors and compare them with what its class needs."""
    headers = find_weights(folder, stem)
    read_json(folder / "config.json")
    try:
        if name == "vae":
            needed = _shapes_of(library_class.from_config, library_class.load_config(folder))
            tied: frozenset[str] = frozenset()
        else:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            needed = _shapes_of(library_class, config)
            tied = frozenset(getattr(library_class, "_tied_weights_keys", None) or ())
    except (ValueError, OSError, TypeError, KeyError) as problem:
        raise ModelFileInvalid(
            f"{folder / 'config.json'} does not describe a {library_class.__name__}: {problem}"
        ) from problem
    prefix = "model." if name == "text_encoder_4" and any(key.startswith("model.") for key in headers) else ""
    bare = {key.removeprefix(prefix): header for key, header in headers.items()}
    check_against(bare, needed, where=folder, optional=tied)
    return _Component(name, library_class, folder, {key: bare[key] for key in needed if key in bare})


def _check_widths(config: TransformerConfig, components: list[_Component]) -> None:
    """The encoders speak to the transformer in its own widths."""
    by_name = {part.name: read_json(part.folder / "config.json") for part in components}
    pooled = by_name["text_encoder"]["projection_dim"] + by_name["text_encoder_2"]["projection_dim"]
    for what, found, needed in (
        ("pooled text embedding", pooled, config.text_emb_dim),
        ("T5", by_name["text_encoder_3"]["d_model"], config.caption_channels[0]),
        ("Llama", by_name["text_encoder_4"]["hidden_size"], config.caption_channels[1]),
        ("autoencoder", by_name["vae"]["latent_channels"], config.in_channels),
    ):
        if found != needed:
            raise ModelFileInvalid(
                f"the {what} is {found} wide, the transformer takes {needed}: these do not belong together"
            )
    layers = by_name["text_encoder_4"]["num_hidden_layers"]
    if max(config.llama_layers) >= layers:
        raise ModelFileInvalid(f"the transformer reads Llama layer {max(config.llama_layers)}, this one has {layers}")


def _card(
    folder: Path,
    source: ModelSource,
    config: TransformerConfig,
    defaults: EditDefaults,
    headers: Mapping[str, TensorHeader],
    components: list[_Component],
) -> ModelCard:
    index = folder / "model_index.json"
    facts = read_json(index) if index.is_file() else {}
    files = {header.file for part in components for header in part.headers.values()}
    files |= {header.file for header in headers.values()}
    if source.adapter is not None:
        files.add(Path(source.adapter).expanduser())
    return ModelCard(
        name=str(facts.get("_name", folder.name)),
        source=str(source.model),
        working_size=config.max_resolution[0],
        defaults=read_defaults(folder, defaults),
        fingerprint=fingerprint_of(iter(files)),
        vocabulary=read_vocabulary(folder),
        is_random=bool(facts.get("_random", False)),
    )


def _sizes(found: _Checked, dtype: torch.dtype) -> ModelSizes:
    """What has to find room, from the headers."""
    item = dtype.itemsize
    transformers = _transformer_parts(found, dtype)
    encoders = [
        Encoder(
            part_of(part.name, _weigh(part.headers, item)),
            text_bytes(_text_sizes(part.folder), rows=TEXT_ROWS, item=item),
        )
        for part in _encoders_of(found)
    ]
    (vae,) = (part for part in found.components if part.name == "vae")
    config = read_json(vae.folder / "config.json")
    widths = config.get("block_out_channels") or config["decoder_block_out_channels"]
    halvings = len(widths) - 1
    needs = autoencoder_needs(
        sum(_weigh(vae.headers, item).values()),
        channels=max(widths[:2]),  # the second widens the first at full size
        side=found.config.max_resolution[0] * 2**halvings,
        item=item,
    )
    layers = max(found.config.llama_layers) + 1
    step, texts, cached = needs_of_steps(found.config, llama_layers=layers, item=item)
    return ModelSizes(found.card.name, tuple(encoders), tuple(transformers), needs, step, texts, cached)


def _transformer_parts(found: _CheckedTransformers, dtype: torch.dtype) -> list[Part]:
    needed = _weigh({name: found.headers[name] for name in _shapes_of(Transformer, found.config)}, dtype.itemsize)
    parts = [part_of("transformer", needed)]
    if found.base is not None:
        parts.append(part_of("transformer of the refine stage", needed))
    elif found.adapter is not None:
        # The refine stage shares what the adapter leaves alone, as long as it is on the device.
        adapted = frozenset(adapted_weight(name) for name in found.adapter)
        parts.append(part_of("transformer of the refine stage", needed, own=adapted))
    return parts


def _weigh(headers: Mapping[str, TensorHeader], item: int) -> dict[str, int]:
    return {name: header.element_count * item for name, header in headers.items()}


def _text_sizes(folder: Path) -> TextSizes:
    """Of a CLIP, a T5 or a Llama, each of which has names of its own."""
    config = read_json(folder / "config.json")
    if "d_model" in config:
        return TextSizes(config["num_layers"], config["d_model"], config["d_ff"], config["num_heads"])
    return TextSizes(
        config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    )


def _load_tokenizers(folder: ModelFolder, text_encoder_4: str | Path | None) -> Tokenizers:
    from transformers import AutoTokenizer

    def load(where: Path) -> Any:
        try:
            return AutoTokenizer.from_pretrained(where, local_files_only=True)
        except (OSError, ValueError, KeyError) as problem:
            raise ModelFileInvalid(f"{where} does not hold a tokenizer: {problem}") from problem

    clip_l, clip_g, t5 = (load(folder.component(name)) for name in ("tokenizer", "tokenizer_2", "tokenizer_3"))
    llama = load(llama_folders(folder, text_encoder_4)[1])
    # Upstream sets this on the caller's object; here the tokenizer is our own.
    llama.pad_token = llama.eos_token
    llama.padding_side = "right"
    rows = min(TEXT_ROWS, *(tokenizer.model_max_length for tokenizer in (clip_l, clip_g, t5, llama)))
    return Tokenizers(clip_l, clip_g, t5, llama, rows)


def _build(part: _Component, device: torch.device, dtype: torch.dtype) -> Any:
    key = "torch_dtype" if part.name == "vae" else "dtype"
    model = part.library_class.from_pretrained(part.folder, use_safetensors=True, local_files_only=True, **{key: dtype})
    return model.to(device).eval().requires_grad_(False)


def _reader(part: _Component, dtype: torch.dtype, progress: Progress) -> Callable[[torch.device], Any]:
    """Reads one text encoder onto a device."""

    def read(device: torch.device) -> Any:
        began = time.monotonic()
        with _quiet_libraries():
            built = _build(part, device, dtype)
        count = sum(header.element_count for header in part.headers.values()) * dtype.itemsize
        if count >= TOLD_BYTES_MIN:
            progress(f"{part.name}: {told_rate(count, time.monotonic() - began)}")
        return built

    return read


def _load_transformers(
    found: _CheckedTransformers,
    patch_embedder: PatchEmbedderOf,
    plan: MemoryPlan,
    device: torch.device,
    dtype: torch.dtype,
    measures: Measures,
    progress: Progress,
) -> tuple[Transformer, Transformer | None]:
    """The transformer of each stage, as two views that share every weight that is the same in both.

    "As shipped" the refine stage runs the base model with the patch embedder of E1 (model.md 11.1).
    """
    config, adapter, base = found.config, found.adapter, found.base
    wanted = _shapes_of(Transformer, config)
    streamed = streamed_names([*wanted], plan)

    def read(headers: Mapping[str, TensorHeader]) -> dict[str, Tensor]:
        """Every weight, where the plan has it."""
        weights: dict[str, Tensor] = {}
        for names, where in ((wanted.keys() - streamed, device), (streamed, torch.device("cpu"))):
            chosen = [name for name in wanted if name in names]
            weights |= load_each(headers, names=chosen, device=where, dtype=dtype, progress=progress)
        return weights

    weights = read(found.headers)
    if adapter is None:
        if base is None:
            return _assembled(config, measures, weights), None
        refine = read(base) | _kept(weights, patch_embedder)
        return _assembled(config, measures, weights), _assembled(config, measures, refine)

    pieces = dict(load_each(adapter, names=adapter, device=device, dtype=None))
    edit = dict(weights)
    for name in REPLACED:
        edit[name] = pieces[name].to(dtype)
    for name in (name for name in pieces if name.endswith(DOWN)):
        target = adapted_weight(name)
        # Merged on the device wherever the weight is kept, so that every plan computes with the same numbers.
        weight = weights[target]
        edit[target] = merge(weight.to(device), pieces[name], pieces[name.replace(DOWN, UP)]).to(weight.device)
    refine = (read(base) if base else weights) | _kept(edit, patch_embedder)
    weights.clear()
    return _assembled(config, measures, edit), _assembled(config, measures, refine)


def _kept(edit_weights: Mapping[str, Tensor], patch_embedder: PatchEmbedderOf) -> dict[str, Tensor]:
    """What the refine stage takes over from the edit stage."""
    return {name: edit_weights[name] for name in REPLACED} if patch_embedder == "e1" else {}


def _assembled(config: TransformerConfig, measures: Measures, weights: dict[str, Tensor]) -> Transformer:
    """A transformer of ``weights``, which are taken out of the dictionary: a layer that is fused is a copy, and what it
    was made of must be free at once, or the model would be in memory twice."""
    with torch.device("meta"):
        transformer = Transformer(config, measures)
    transformer.load_state_dict(weights, assign=True)
    weights.clear()
    return rebuild(transformer.eval().requires_grad_(False))


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """No progress bars and notes of the libraries while their parts load; errors still raise."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    before = transformers_logging.get_verbosity(), diffusers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before[0])
        diffusers_logging.set_verbosity(before[1])
        transformers_logging.enable_progress_bar()
