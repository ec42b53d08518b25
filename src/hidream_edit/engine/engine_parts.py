"""What an engine computes with, made of a model's files as its options say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hidream_edit.domain.choices import choice
from hidream_edit.domain.errors import DeviceUnavailable, InputInvalid
from hidream_edit.domain.quality import Quality, quality_named
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.checked_model import ModelSource
from hidream_edit.engine.devices import choose_device, choose_dtype, multiplies_bfloat16
from hidream_edit.engine.library_parts import Progress
from hidream_edit.engine.loading import LoadedModel, load_model
from hidream_edit.engine.measures import measures_for, possible_measures, recorder_for
from hidream_edit.engine.memory.plan import AUTO, Arrangement
from hidream_edit.engine.model.denoiser import Denoisers
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.recorded import RecordedTransformer, Recorder, Recordings
from hidream_edit.engine.parallel.group import Group, OnLoss
from hidream_edit.engine.quality.float8 import NO_FLOAT8, Float8, Float8Products


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a model is to compute, as it was asked for; `Engine.load` says what each of these means."""

    device: str | None
    devices: Sequence[str]
    dtype: str | None
    memory: str | Arrangement | None
    measures: Measures | str | None
    quality: str | None
    float8: Float8
    quantization: str | None
    progress: Progress
    on_loss: OnLoss | None


@dataclass(frozen=True, slots=True)
class EngineParts:
    """A loaded model, and what its stages call."""

    loaded: LoadedModel
    device: torch.device  # the first of several
    dtype: torch.dtype
    denoisers: Denoisers
    products: Float8Products = NO_FLOAT8
    group: Group | None = None

    @classmethod
    def of(cls, loaded: LoadedModel, device: torch.device, dtype: torch.dtype) -> EngineParts:
        """A model on one device that computes as it was loaded."""
        return cls(loaded, device, dtype, Denoisers(loaded.edit_transformer, loaded.refine_transformer))

    def recorded(self, recorder: Recorder) -> EngineParts:
        """The same with forwards that are recorded, those of both stages together."""
        recordings, refine = Recordings(recorder), self.loaded.refine_transformer
        return replace(
            self,
            denoisers=Denoisers(
                RecordedTransformer(self.loaded.edit_transformer, recordings),
                None if refine is None else RecordedTransformer(refine, recordings),
            ),
        )


def open_parts(source: ModelSource, options: EngineOptions) -> EngineParts:
    """Load a model onto one device or several; what cannot be is refused before.

    Raises:
        InputInvalid, ModelUnusable, DeviceUnavailable: see `Engine.load`.
    """
    choices = _choices(options)
    if len(options.devices) < 2:
        return _on_one_device(source, options, choices)
    return _on_several_devices(source, options, choices)


@dataclass(frozen=True, slots=True)
class _Choices:
    """What was left open filled in, for the device that is there."""

    device: torch.device
    dtype: torch.dtype
    measures: Measures
    quantization: Quantization
    quality: Quality | None  # None: the model's own


def _choices(options: EngineOptions) -> _Choices:
    if options.device is not None and options.devices:
        raise InputInvalid("give one device or several, not both", field="devices")
    device = choose_device(options.devices[0] if options.devices else options.device)
    dtype = choose_dtype(options.dtype, device)
    kept = options.quantization
    quantization = Quantization.NONE if kept is None else choice(Quantization, kept, field="quantization")
    measures = options.measures
    if not isinstance(measures, Measures):
        measures = measures_for(device, dtype).changed(measures or "")
    measures = possible_measures(measures, device, dtype, float8=options.float8, quantization=quantization)
    if dtype is torch.bfloat16 and not multiplies_bfloat16(device):
        options.progress(
            "this processor has no instructions for bfloat16: float32 is faster, and needs twice the memory"
        )
    quality = None if options.quality is None else quality_named(options.quality)
    return _Choices(device, dtype, measures, quantization, quality)


def _on_one_device(source: ModelSource, options: EngineOptions, choices: _Choices) -> EngineParts:
    device, progress = choices.device, options.progress
    loaded = _loaded(source, options, choices)
    parts = EngineParts.of(loaded, device, choices.dtype)
    may_keep = options.memory in (None, AUTO)  # an amount that was given is for what the plan counts
    if options.float8:
        emulated = options.float8 == "emulated"
        parts = replace(parts, products=Float8Products.of(loaded, device, emulated=emulated, may_keep=may_keep))
    if choices.measures.recorded:
        recorder = recorder_for(loaded.plan, device, may_keep=may_keep, progress=progress)
        parts = parts if recorder is None else parts.recorded(recorder)
    return parts


def _on_several_devices(source: ModelSource, options: EngineOptions, choices: _Choices) -> EngineParts:
    if options.float8:
        raise DeviceUnavailable("float8 is for edits on one device: leave it off, or name one device")
    if isinstance(options.memory, Arrangement):
        raise InputInvalid("several devices take an amount of memory, not an arrangement", field="memory")
    # Branches are what the devices share out, and what they tell each other is not recorded.
    choices = replace(choices, measures=choices.measures.without("one_by_one", "ahead", "recorded"))
    # The other ranks load while this one does.
    group = Group(
        options.devices,
        source,
        dtype=str(choices.dtype).removeprefix("torch."),
        memory=options.memory,
        measures=choices.measures,
        quantization=choices.quantization,
        progress=options.progress,
        on_loss=options.on_loss,
    )
    try:
        loaded = _loaded(source, options, choices)
        denoisers = group.connected(loaded.edit_transformer, loaded.refine_transformer)
        return EngineParts(loaded, choices.device, choices.dtype, denoisers, group=group)
    except BaseException:
        group.close()
        raise


def _loaded(source: ModelSource, options: EngineOptions, choices: _Choices) -> LoadedModel:
    loaded = load_model(
        source,
        device=choices.device,
        dtype=choices.dtype,
        memory=options.memory,
        measures=choices.measures,
        quantization=choices.quantization,
        progress=options.progress,
    )
    if choices.quality is None:
        return loaded
    defaults = replace(loaded.card.defaults, quality=choices.quality)
    return replace(loaded, card=replace(loaded.card, defaults=defaults))
