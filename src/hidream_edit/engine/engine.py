"""Loaded weights and what one can do with them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from torch import Tensor

from hidream_edit.domain.edit import RANDOM_SEED_END, EditInput, EditSettings
from hidream_edit.domain.errors import InputInvalid, StateInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.cards import ModelCard
from hidream_edit.engine.checked_model import ModelSource, PatchEmbedderOf
from hidream_edit.engine.detail import restore_detail
from hidream_edit.engine.devices import exact_inference
from hidream_edit.engine.engine_parts import EngineOptions, EngineParts, open_parts
from hidream_edit.engine.fitting import Fitting, fitting_of, off_canvas, onto_canvas, resized_picture, tensor_of
from hidream_edit.engine.known_models import BUNDLED, MINI
from hidream_edit.engine.latents import draw_noise, pixels_of, rgb_of
from hidream_edit.engine.library_parts import Progress
from hidream_edit.engine.memory.activations import TEXTS_KEPT
from hidream_edit.engine.memory.host_heap import give_back_before_decoding
from hidream_edit.engine.memory.plan import Arrangement, MemoryPlan
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.parallel.group import OnLoss
from hidream_edit.engine.prompt_reader import PromptReader
from hidream_edit.engine.prompts import prompts_of
from hidream_edit.engine.quality.float8 import Float8
from hidream_edit.engine.quality.presets import TRADES, Trades
from hidream_edit.engine.quality.shortcuts import shortened
from hidream_edit.engine.recent import Recent
from hidream_edit.engine.sampler import SolverState, advance
from hidream_edit.engine.schedule import Schedule, make_schedule, refine_start
from hidream_edit.engine.stages import Stages
from hidream_edit.engine.state import EditState

SOURCES_KEPT = 4  # latents of the last pictures: people edit the same one again


class Engine:
    """Edits pictures with one model on one device.

    An edit is a value: `begin` makes it, `advance` returns the value one denoising step later, `finish` the one with
    pictures in the source's size. Whoever holds the values decides about progress, previews, cancellation and
    pre-emption; the engine keeps nothing of an edit but caches of what its texts and settings lead to.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._loaded, self._device, self._dtype = parts.loaded, parts.device, parts.dtype
        self._products, self._group = parts.products, parts.group
        kept_on = torch.device("cpu") if self.plan.texts_go_to_the_host else self._device
        self._reader = PromptReader(parts.loaded.text_encoders, self.model, device=self._device, kept_on=kept_on)
        self._stages = Stages(parts.denoisers, self._reader)
        self.trades: Mapping[Quality, Trades] = TRADES  # benchmarks and tests look at others
        self._sources: Recent[bytes, Tensor] = Recent(SOURCES_KEPT)
        self._schedules: Recent[int, Schedule] = Recent(TEXTS_KEPT)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        adapter: str | Path | None = None,
        base: str | Path | None = None,
        text_encoder_4: str | Path | None = None,
        device: str | None = None,
        devices: Sequence[str] = (),
        dtype: str | None = None,
        refine_patch_embedder: PatchEmbedderOf = "e1",
        memory: str | Arrangement | None = None,
        measures: Measures | str | None = None,
        quality: str | None = None,
        float8: Float8 = False,
        quantization: str | None = None,
        progress: Progress = lambda _: None,
        on_loss: OnLoss | None = None,
    ) -> Engine:
        """Load a model; without ``model``, the small one that comes with the package.

        Args:
            model: a folder in the layout of the public repositories, a hub id, or ``mini``.
            adapter: E1's adapter file, where ``model`` is I1-Full.
            base: I1-Full, for a refine stage after the full E1-Full folder.
            text_encoder_4: Llama's folder or hub id, where ``model`` does not hold it.
            device: ``cpu``, ``cuda``, ``cuda:1``…; chosen by what is there when None or ``auto``.
            devices: several that do each step together, the first of which also does the rest; `close` ends the
                processes of the others. Not together with ``device``.
            dtype: ``float32``, ``bfloat16`` or ``float16``; by the device when None or ``auto``.
            refine_patch_embedder: whose patch embedder the refine stage runs: E1's, as the published script does, or
                I1's own.
            memory: how much of the device's memory may be used, such as ``24GB``: parts that do not fit then take
                turns. None or ``auto``: what is free; on a CPU everything stays in memory. An `Arrangement` is obeyed
                without asking whether it fits.
            measures: which ways to compute less are taken, all that help by default; none of them changes the picture
                by more than rounding. As a text, changes to those: ``compiled,no-grouped``.
            quality: what edits that do not say trade for time: ``exact``, ``balanced`` or ``turbo``; None: the model's
                own default, ``exact`` where it has none.
            float8: whether edits that are not exact multiply in float8; ``emulated``: on any device, slowly, to see
                what it does to a picture. Layers are not fused then.
            quantization: what the weights of wide layers, text encoders too, are kept as: ``float8``, ``int8`` or
                ``nf4``; None or ``none``: as they are. Layers are not fused then; not together with ``float8``.
            progress: told what is being done, in a few words.
            on_loss: called from any thread when one of several devices is lost, and with it all of them.

        Raises:
            InputInvalid: ``memory`` is not an amount, there is no such ``quality``, ``quantization`` or measure, or two
                settings exclude each other.
            ModelUnusable: files missing, wrong, gated, or too large for the memory.
            DeviceUnavailable: no such device or precision; float8 on one that is no faster for it, or on several;
                ``recorded`` among the measures where nothing can be recorded; or one of several devices could not
                load the model.
        """
        folder = BUNDLED if model is None or model == MINI else model
        source = ModelSource(folder, adapter, base, text_encoder_4, refine_patch_embedder)
        options = EngineOptions(
            device=device,
            devices=devices,
            dtype=dtype,
            memory=memory,
            measures=measures,
            quality=quality,
            float8=float8,
            quantization=quantization,
            progress=progress,
            on_loss=on_loss,
        )
        return cls(open_parts(source, options))

    def close(self) -> None:
        """End the processes of the other devices; the engine cannot be used any more. Without them, nothing."""
        if self._group is not None:
            self._group.close()

    @property
    def model(self) -> ModelCard:
        """Facts about the loaded model."""
        return self._loaded.card

    @property
    def device(self) -> str:
        """One, or several with commas between."""
        return str(self._device) if self._group is None else ", ".join(self._group.devices)

    @property
    def dtype(self) -> str:
        return str(self._dtype).removeprefix("torch.")

    @property
    def plan(self) -> MemoryPlan:
        """Which parts of the model are where."""
        return self._loaded.plan

    def memory_bytes(self) -> int:
        """What the weights and caches take: of the GPU, or of this process."""
        if self._device.type == "cuda":
            return int(torch.cuda.memory_reserved(self._device))
        return int(psutil.Process().memory_info().rss)

    def settle(
        self, edit_input: EditInput, *, random_seed: Callable[[], int] = lambda: secrets.randbelow(RANDOM_SEED_END)
    ) -> EditSettings:
        """Fill what a request left out with this model's defaults, and check it.

        Raises:
            InputInvalid: a field is out of bounds, or asks for something this model cannot do.
        """
        settings = edit_input.settled(self.model.defaults, random_seed=random_seed)
        if settings.refine_strength > 0 and self._loaded.refine_transformer is None:
            raise InputInvalid(
                "refine_strength needs the base model: load HiDream-I1-Full with the E1 adapter, or give base=I1-Full",
                field="refine_strength",
                kind="feature_not_supported",
            )
        return settings

    def begin(self, source: Picture, settings: EditSettings) -> EditState:
        """Encode ``source`` and draw the noise of the first image.

        Raises:
            InputInvalid: the picture is too large for the model, which only ``Fit.NATIVE`` can lead to.
        """
        fitting = self._fitting(source, settings)
        width, height = fitting.canvas
        transformer = self._loaded.edit_transformer.config
        tokens = 2 * width * height // self._multiple**2
        if height != 2 * width and tokens > transformer.max_tokens:
            raise InputInvalid(
                f"{width}x{height} pixels are {tokens} tokens, this model takes up to {transformer.max_tokens}; "
                "leave fit at its default to have the picture resized",
                field="image_url",
                kind="image_too_large",
            )
        canvas = onto_canvas(source, fitting)
        source_latents = self._sources.get(_digest(canvas), lambda: self._encoded(canvas))
        state = EditState(
            settings=settings,
            source=source,
            model=self._identity,
            prompt=prompts_of(settings).prompt,
            warnings=self._reader.warnings(settings),
            image_index=0,
            step=0,
            source_latents=source_latents,
            solver=SolverState(source_latents),
            float8=self._multiplies_in_float8(settings),
            quantization=self._loaded.quantization,
            source_canvas=canvas,
        )
        return self._with_image_started(state, 0)

    def advance(self, state: EditState) -> EditState:
        """The edit one denoising step later; the last step of an image also decodes it, for `picture` to go on with.

        Raises:
            StateInvalid: the edit began with other weights or another precision, or is already done.
        """
        if state.model != self._identity:
            raise StateInvalid(f"this edit began with {state.model}, loaded is {self._identity}")
        if state.float8 != self._multiplies_in_float8(state.settings):
            raise StateInvalid(
                f"this edit began {'with' if state.float8 else 'without'} float8, and goes on with it only so"
            )
        if state.is_done:
            raise StateInvalid("this edit is done")
        if state.image_is_finished:
            state = self._with_image_started(state, state.image_index + 1)
        schedule = self._schedule(state.step_count)
        refine_from = refine_start(state.step_count, state.settings.refine_strength)
        stage_of = self._stages.edit if state.step < refine_from else self._stages.refine
        stage = stage_of(state.settings, schedule.timesteps)
        with exact_inference(), self._products.turned(on=state.float8):
            solver, source_latents = state.solver.to(self._device), state.source_latents.to(self._device)
            if state.settings.quality is Quality.EXACT:
                shortcuts = state.shortcuts.counted(len(stage.branches))
                velocity = stage.velocity(solver.latents, source_latents, schedule.timesteps[state.step])
            else:
                # Other branches, another model: what the edit stage remembers says nothing about the refine stage.
                past = state.shortcuts.fresh() if state.step == refine_from else state.shortcuts.to(self._device)
                velocity, shortcuts = shortened(
                    stage,
                    self.trades[state.settings.quality],
                    past,
                    solver.latents,
                    source_latents,
                    step=state.step,
                    schedule=schedule,
                )
            solver = advance(solver, velocity, state.step, schedule)
        state = replace(state, step=state.step + 1, solver=solver, shortcuts=shortcuts)
        if state.image_is_finished:
            give_back_before_decoding(self.plan)
            with exact_inference():
                canvas = rgb_of(self._loaded.autoencoder.decode(state.solver.latents))
            state = replace(state, canvases=(*state.canvases, canvas))
        return state

    def picture(self, state: EditState, index: int) -> Picture:
        """The image ``index``, which has had its last step, in the source's size: the padding cut off, then enlarged or
        with the source's own detail.

        Work for a processor, not for the device, and it changes nothing here: any thread may do it while another edit
        goes on.
        """
        if index < len(state.pictures):
            return state.pictures[index]
        fitting, source = self._fitting(state.source, state.settings), state.source
        edited = off_canvas(state.canvases[index - len(state.pictures)], fitting)
        if not state.settings.detail:
            return resized_picture(edited, source.size, source.alpha)
        canvas = onto_canvas(source, fitting) if state.source_canvas is None else state.source_canvas
        seen = off_canvas(canvas, fitting)
        with torch.inference_mode():
            pixels = tensor_of(source)
            restore_detail(pixels, seen.float() / 255, edited.float() / 255, out=pixels)
        return Picture(*source.size, pixels.numpy().tobytes(), source.alpha)

    def finish(self, state: EditState) -> EditState:
        """The edit with a picture for each image that has had its last step; see `picture`."""
        made = tuple(self.picture(state, index) for index in range(len(state.pictures) + len(state.canvases)))
        return replace(state, pictures=made, canvases=())

    def steps(self, state: EditState) -> Iterator[EditState]:
        """Advance to the end, yielding the state after each step, its pictures finished. Dropping the iterator ends the
        edit."""
        while not state.is_done:
            state = self.finish(self.advance(state))
            yield state

    def preview(self, state: EditState, *, side_max: int = 256) -> Picture:
        """The finished picture as far as the current step can tell, with no side longer than ``side_max`` pixels."""
        fitting = self._fitting(state.source, state.settings)
        latents = (state.solver.predictions or (state.solver.latents,))[0].to(self._device)
        factor = self._loaded.autoencoder.factor
        shrink = max(1, max(latents.shape[-2:]) * factor // max(side_max, self.model.working_size // 3))
        with exact_inference():
            if shrink > 1:
                latents = torch.nn.functional.avg_pool2d(latents, shrink)
            canvas = rgb_of(self._loaded.autoencoder.decode(latents))
        whole = tensor_of(resized_picture(canvas, fitting.canvas))
        width, height = state.source.size
        scale = min(1.0, side_max / max(width, height))
        return resized_picture(
            off_canvas(whole, fitting), (max(1, round(width * scale)), max(1, round(height * scale)))
        )

    def _encoded(self, canvas: Tensor) -> Tensor:
        """Latents of a picture (H, W, 3) in eight bits."""
        with exact_inference():
            return self._loaded.autoencoder.encode(pixels_of(canvas, self._dtype).to(self._device))

    @property
    def _identity(self) -> str:
        kept = self._loaded.quantization
        return f"{self.model.fingerprint} {self.dtype}" + ("" if kept is Quantization.NONE else f" {kept.value}")

    def _multiplies_in_float8(self, settings: EditSettings) -> bool:
        return self._products.are_there and self.trades[settings.quality].float8

    @property
    def _multiple(self) -> int:
        """Pixels per token along a side."""
        return self._loaded.autoencoder.factor * self._loaded.edit_transformer.config.patch_size

    def _fitting(self, source: Picture, settings: EditSettings) -> Fitting:
        return fitting_of(source.size, settings.fit, working_size=self.model.working_size, multiple=self._multiple)

    def _with_image_started(self, state: EditState, image_index: int) -> EditState:
        noise = draw_noise(state.settings.seed_of_image(image_index), tuple(state.source_latents.shape), self._dtype)
        return state.with_image_started(image_index, noise.to(self._device))

    def _schedule(self, step_count: int) -> Schedule:
        max_tokens = self._loaded.edit_transformer.config.max_tokens
        return self._schedules.get(
            step_count, lambda: make_schedule(self._loaded.scheduler_config, step_count, max_tokens=max_tokens)
        )


def _digest(canvas: Tensor) -> bytes:
    """Tells pictures (H, W, 3) apart."""
    return hashlib.sha256(repr(tuple(canvas.shape)).encode() + canvas.contiguous().numpy().tobytes()).digest()
