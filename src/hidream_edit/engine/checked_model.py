"""A model folder whose files were all looked at, and none of whose weights was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from hidream_edit.domain.edit import EditDefaults
from hidream_edit.domain.errors import ModelFileInvalid
from hidream_edit.engine.adapter import read_adapter
from hidream_edit.engine.cards import ModelCard, read_defaults, read_vocabulary
from hidream_edit.engine.folders import ModelFolder, find_folder, llama_folders, read_json
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.quality.quantized import linear_weights
from hidream_edit.engine.quiet_libraries import quiet_libraries
from hidream_edit.engine.safetensors_files import TensorHeader, check_against, find_weights, fingerprint_of
from hidream_edit.engine.schedule import sampler_kind

PatchEmbedderOf = Literal["e1", "i1"]

# The text-to-image base is configured for a square of 1024 pixels; the adapter was trained on the double canvas of
# 768, and every script that puts it on the base overwrites the length by hand (model.md 2.1).
BASE_RESOLUTION, ADAPTED_RESOLUTION = (128, 128), (96, 192)
ADAPTED_REFINE_STRENGTH = 0.3
VAE = "vae"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What to load. ``base`` is I1-Full, for a refine tail after the full E1 folder."""

    model: str | Path
    adapter: str | Path | None = None
    base: str | Path | None = None
    text_encoder_4: str | Path | None = None
    refine_patch_embedder: PatchEmbedderOf = "e1"


@dataclass(frozen=True, slots=True)
class Component:
    """One part that a library builds: its class, its folder, and the tensors that were found for it."""

    name: str
    library_class: Any
    folder: Path
    headers: Mapping[str, TensorHeader]
    linear: frozenset[str]  # weights of the linear layers in its blocks


@dataclass(frozen=True, slots=True)
class CheckedTransformers:
    """The transformers of a model, whose files were looked at and not read."""

    config: TransformerConfig
    headers: Mapping[str, TensorHeader]
    adapter: Mapping[str, TensorHeader] | None
    base: Mapping[str, TensorHeader] | None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor of a transformer."""
        return shapes_of(blueprint(Transformer, self.config))


@dataclass(frozen=True, slots=True)
class CheckedModel(CheckedTransformers):
    """A model whose files were all looked at, and none of whose weights was read."""

    folder: ModelFolder
    components: list[Component]
    scheduler_config: Mapping[str, Any]
    card: ModelCard

    @property
    def encoders(self) -> list[Component]:
        """Of text, in the order of `TextEncoders`."""
        return [part for part in self.components if part.name != VAE]

    @property
    def autoencoder(self) -> Component:
        (found,) = (part for part in self.components if part.name == VAE)
        return found


def check_model(source: ModelSource) -> CheckedModel:
    """Look at everything that loading will need.

    Raises:
        ModelUnusable: one of its subclasses says what is wrong and what to do.
    """
    folder = ModelFolder(find_folder(source.model))
    found = check_transformers(source, folder)
    scheduler_config = read_json(folder.component("scheduler") / "scheduler_config.json")
    sampler_kind(scheduler_config)
    components = _find_components(folder, source.text_encoder_4)
    _check_widths(found.config, components)
    defaults = EditDefaults(refine_strength=ADAPTED_REFINE_STRENGTH if found.adapter else 0.0)
    card = _card(folder.path, source, found.config, defaults, found.headers, components)
    return CheckedModel(
        found.config, found.headers, found.adapter, found.base, folder, components, scheduler_config, card
    )


def check_transformers(source: ModelSource, folder: ModelFolder) -> CheckedTransformers:
    """The same for the transformers alone.

    Raises:
        ModelUnusable: as `check_model`.
    """
    transformer_folder = folder.component("transformer")
    config = _transformer_config(transformer_folder, has_adapter=source.adapter is not None)
    headers = find_weights(transformer_folder, "diffusion_pytorch_model")
    needed = shapes_of(blueprint(Transformer, config))
    check_against(headers, needed, where=transformer_folder)
    adapter = read_adapter(Path(source.adapter).expanduser(), needed) if source.adapter is not None else None
    return CheckedTransformers(config, headers, adapter, _base_headers(source, needed))


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


def blueprint(build: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    """A module whose tensors have shapes and no memory."""
    with torch.device("meta"):
        return build(*arguments)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of every tensor that it saves."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _find_components(folder: ModelFolder, text_encoder_4: str | Path | None) -> list[Component]:
    import diffusers  # slow to import
    import transformers

    vae_folder = folder.component("vae")
    vae_class = read_json(vae_folder / "config.json").get("_class_name", "AutoencoderKL")
    if vae_class not in ("AutoencoderKL", "AutoencoderDC"):
        raise ModelFileInvalid(f"{vae_folder}: {vae_class} is not an autoencoder that this engine runs")
    llama_folder, _ = llama_folders(folder, text_encoder_4)
    clip = transformers.CLIPTextModelWithProjection
    with quiet_libraries():
        return [
            _checked("text_encoder", clip, folder.component("text_encoder"), "model"),
            _checked("text_encoder_2", clip, folder.component("text_encoder_2"), "model"),
            _checked("text_encoder_3", transformers.T5EncoderModel, folder.component("text_encoder_3"), "model"),
            _checked("text_encoder_4", transformers.LlamaModel, llama_folder, "model"),
            _checked(VAE, getattr(diffusers, vae_class), vae_folder, "diffusion_pytorch_model"),
        ]


def _checked(name: str, library_class: Any, folder: Path, stem: str) -> Component:
    """Find a component's tensors and compare them with what its class needs."""
    headers = find_weights(folder, stem)
    read_json(folder / "config.json")
    try:
        if name == VAE:
            module = blueprint(library_class.from_config, library_class.load_config(folder))
            tied: frozenset[str] = frozenset()
        else:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            module = blueprint(library_class, config)
            tied = frozenset(getattr(library_class, "_tied_weights_keys", None) or ())
    except (ValueError, OSError, TypeError, KeyError) as problem:
        raise ModelFileInvalid(
            f"{folder / 'config.json'} does not describe a {library_class.__name__}: {problem}"
        ) from problem
    needed = shapes_of(module)
    prefix = "model." if name == "text_encoder_4" and any(key.startswith("model.") for key in headers) else ""
    bare = {key.removeprefix(prefix): header for key, header in headers.items()}
    check_against(bare, needed, where=folder, optional=tied)
    linear = frozenset() if name == VAE else linear_weights(module)
    return Component(name, library_class, folder, {key: bare[key] for key in needed if key in bare}, linear)


def _check_widths(config: TransformerConfig, components: list[Component]) -> None:
    """The encoders speak to the transformer in its own widths."""
    by_name = {part.name: read_json(part.folder / "config.json") for part in components}
    pooled = by_name["text_encoder"]["projection_dim"] + by_name["text_encoder_2"]["projection_dim"]
    for what, found, needed in (
        ("pooled text embedding", pooled, config.text_emb_dim),
        ("T5", by_name["text_encoder_3"]["d_model"], config.caption_channels[0]),
        ("Llama", by_name["text_encoder_4"]["hidden_size"], config.caption_channels[1]),
        ("autoencoder", by_name[VAE]["latent_channels"], config.in_channels),
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
    components: list[Component],
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
