"""From a model folder to weights on a device: verify everything, then allocate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.cards import ModelCard
from hidream_edit.engine.checked_model import ModelSource, check_model, check_transformers
from hidream_edit.engine.devices import HEADROOM_BYTES, check_memory, free_bytes, free_host_bytes
from hidream_edit.engine.folders import ModelFolder, find_folder
from hidream_edit.engine.latents import Autoencoder
from hidream_edit.engine.library_parts import Progress, build, encoder_reader, load_tokenizers
from hidream_edit.engine.memory.host_heap import give_back
from hidream_edit.engine.memory.placing import placed_encoder, stream_blocks
from hidream_edit.engine.memory.plan import (
    HOST_RESERVE_BYTES,
    RESERVE_BYTES,
    Arrangement,
    MemoryPlan,
    Room,
    choose_in,
    everything_resident,
    parse_memory,
)
from hidream_edit.engine.memory.sizes import ModelSizes
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.model_sizing import sizes_of_model, sizes_of_transformers
from hidream_edit.engine.stage_transformers import LoadOptions, load_stages
from hidream_edit.engine.text_encoders import TextEncoders


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

    @property
    def quantization(self) -> Quantization:
        """Of the weights of wide layers."""
        return self.plan.sizes.quantization


def load_model(
    source: ModelSource,
    *,
    device: torch.device,
    dtype: torch.dtype,
    memory: str | Arrangement | None = None,
    measures: Measures = PLAIN,
    quantization: Quantization = Quantization.NONE,
    progress: Progress = lambda _: None,
) -> LoadedModel:
    """Load a model.

    Raises:
        ModelUnusable: one of its subclasses says what is wrong and what to do; nothing was allocated then.
    """
    progress("checking the files")
    found = check_model(source)
    sizes_of = partial(sizes_of_model, found, dtype, measures=measures)
    plan = _planned(sizes_of, quantization, device, memory)
    if plan.streamed:
        measures = measures.without("ahead")  # it asks blocks for their weights out of turn
    if not plan.everything_is_resident:
        progress(f"memory plan\n{plan.table()}")

    progress("loading the text encoders")
    tokenizers = load_tokenizers(found.folder, source.text_encoder_4)
    clip_l, clip_g, t5, llama = (
        placed_encoder(encoder_reader(part, device, dtype, quantization, progress), place, device)
        for part, place in zip(found.encoders, plan.arrangement.encoders, strict=True)
    )
    model = build(found.autoencoder, device, dtype)
    progress("loading the transformer")
    options = LoadOptions(device, dtype, measures, quantization, progress)
    edit, refine = load_stages(found, source.refine_patch_embedder, plan, options)
    stream_blocks([edit] if refine is None else [edit, refine], plan, device)
    if measures.channels_last:
        model.to(memory_format=torch.channels_last)
    give_back()  # what weights were while they were read
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
    quantization: Quantization = Quantization.NONE,
    progress: Progress = lambda _: None,
) -> list[Transformer]:
    """Those of the edit stage and, where the model has one, of the refine stage: all that a rank other than 0 needs.

    Raises:
        ModelUnusable: see `load_model`.
    """
    folder = ModelFolder(find_folder(source.model))
    found = check_transformers(source, folder)
    sizes_of = partial(sizes_of_transformers, folder.path.name, found, dtype, measures=measures)
    plan = _planned(sizes_of, quantization, device, memory)
    options = LoadOptions(device, dtype, measures, quantization, progress)
    edit, refine = load_stages(found, source.refine_patch_embedder, plan, options)
    transformers = [edit] if refine is None else [edit, refine]
    stream_blocks(transformers, plan, device)
    give_back()
    return transformers


def plan_model(
    source: ModelSource, *, dtype: torch.dtype, room: Room, quantization: Quantization = Quantization.NONE
) -> MemoryPlan:
    """The plan that loading onto a GPU would follow, from the headers of the files alone.

    Raises:
        ModelUnusable: see `load_model`.
    """
    found = check_model(source)

    def sizes_of(kept: Quantization) -> ModelSizes:
        is_plain = kept is Quantization.NONE
        together = Measures(fused=is_plain, grouped=is_plain, as_stored=is_plain)
        return sizes_of_model(found, dtype, kept, measures=together)

    return choose_in(quantization, room, sizes_of)


def _planned(
    sizes_of: Callable[[Quantization], ModelSizes],
    quantization: Quantization,
    device: torch.device,
    memory: str | Arrangement | None,
) -> MemoryPlan:
    """The plan for what the device has, or for what may be used of it."""
    is_shared = device.type != "cuda"
    reserve = HEADROOM_BYTES if is_shared else RESERVE_BYTES
    if isinstance(memory, Arrangement):
        return MemoryPlan(sizes_of(quantization), memory, reserve, is_shared)
    allowed = None if memory is None else parse_memory(memory)
    if allowed is None and is_shared:
        plan = everything_resident(sizes_of(quantization), reserve=reserve, is_shared=is_shared)
        check_memory(max(plan.sizes.weights, plan.loading), device)
        return plan
    free = free_bytes(device)
    room = Room(
        free if allowed is None else min(allowed, free), free_host_bytes() - HOST_RESERVE_BYTES, is_shared, reserve
    )
    return choose_in(quantization, room, sizes_of)
