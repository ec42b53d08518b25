"""Loaded weights and what one can do with them."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from torch import Tensor

from hidream_edit.domain.choices import choice
from hidream_edit.domain.edit import RANDOM_SEED_END, EditInput, EditSettings
from hidream_edit.domain.errors import DeviceUnavailable, InputInvalid, StateInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality, quality_named
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.cards import ModelCard
from hidream_edit.engine.checked_model import ModelSource, PatchEmbedderOf
from hidream_edit.engine.detail import restore_detail
from hidream_edit.engine.devices import choose_device, choose_dtype, multiplies_bfloat16
from hidream_edit.engine.fitting import Fitting, fitting_of, off_canvas, onto_canvas, resized_picture, tensor_of
from hidream_edit.engine.guidance import Guidance, Words, edit_branches, refine_branches
from hidream_edit.engine.known_models import BUNDLED, MINI
from hidream_edit.engine.latents import draw_noise, pixels_of, rgb_of
from hidream_edit.engine.library_parts import Progress
from hidream_edit.engine.loading import LoadedModel, load_model
from hidream_edit.engine.measures import measures_for, possible_measures, recorder_for
from hidream_edit.engine.memory.activations import STAGES_KEPT, TEXTS_KEPT
from hidream_edit.engine.memory.host_heap import give_back_before_decoding
from hidream_edit.engine.memory.plan import AUTO, Arrangement, MemoryPlan
from hidream_edit.engine.model.denoiser import Denoiser
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.recorded import RecordedTransformer, Recorder, Recordings
from hidream_edit.engine.parallel.group import Group, OnLoss
from hidream_edit.engine.prompts import Prompts, compose_prompt, prompts_of
from hidream_edit.engine.quality.float8 import NO_FLOAT8, Float8, Float8Products
from hidream_edit.engine.quality.presets import TRADES, Trades
from hidream_edit.engine.quality.shortcuts import shortened
from hidream_edit.engine.recent import Recent
from hidream_edit.engine.sampler import SolverState, advance
from hidream_edit.engine.schedule import Schedule, make_schedule, refine_start
from hidream_edit.engine.stages import Stage, edit_stage, refine_stage
from hidream_edit.engine.state import EditState
from hidream_edit.engine.text_encoders import PromptEmbeddings

SOURCES_KEPT = 4  # latents of the last pictures: people edit the same one again


class Engine:
    """Edits pictures with one model on one device.

    An edit is a value: `begin` makes it, `advance` returns the value one denoising step later, `finish` the one with
    pictures in the source's size. Whoever holds the values decides about progress, previews, cancellation and
    pre-emption; the engine keeps nothing of an edit but caches of what its texts and settings lead to.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        device: torch.device,
        dtype: torch.dtype,
        group: Group | None = None,
        products: Float8Products = NO_FLOAT8,
        recorder: Recorder | None = None,
    ) -> None:
        self._loaded = loaded
        self._group = group
        self._edit_transformer: Denoiser = loaded.edit_transformer
        self._refine_transformer: Denoiser | None = loaded.refine_transformer
        if group is not None:
            self._edit_transformer, self._refine_transformer = group.connected(
                loaded.edit_transformer, loaded.refine_transformer
            )
        elif recorder is not None:
            recordings, refine = Recordings(recorder), loaded.refine_transformer
            self._edit_transformer = RecordedTransformer(loaded.edit_transformer, recordings)
            self._refine_transformer = None if refine is None else RecordedTransformer(refine, recordings)
        self._device = device
        self._dtype = dtype
        self._products = products
        self.trades: Mapping[Quality, Trades] = TRADES  # benchmarks and tests look at others
        self._texts: Recent[str, tuple[PromptEmbeddings, bool]] = Recent(TEXTS_KEPT)
        self._stages: Recent[tuple[object, ...], Stage] = Recent(STAGES_KEPT)
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
        if device is not None and devices:
            raise InputInvalid("give one device or several, not both", field="devices")
        chosen = choose_device(devices[0] if devices else device)
        precision = choose_dtype(dtype, chosen)
        kept = Quantization.NONE if quantization is None else choice(Quantization, quantization, field="quantization")
        taken = measures if isinstance(measures, Measures) else measures_for(chosen, precision).changed(measures or "")
        taken = possible_measures(taken, chosen, precision, float8=float8, quantization=kept)
        if precision is torch.bfloat16 and not multiplies_bfloat16(chosen):
            progress("this processor has no instructions for bfloat16: float32 is faster, and needs twice the memory")
        wanted = None if quality is None else quality_named(quality)
        folder = BUNDLED if model is None or model == MINI else model
        source = ModelSource(folder, adapter, base, text_encoder_4, refine_patch_embedder)

        def load() -> LoadedModel:
            loaded = load_model(
                source,
                device=chosen,
                dtype=precision,
                memory=memory,
                measures=taken,
                quantization=kept,
                progress=progress,
            )
            if wanted is None:
                return loaded
            defaults = replace(loaded.card.defaults, quality=wanted)
            return replace(loaded, card=replace(loaded.card, defaults=defaults))

        if len(devices) < 2:
            loaded, products, recorder = load(), NO_FLOAT8, None
            may_keep = memory in (None, AUTO)  # an amount that was given is for what the plan counts
            if float8:
                products = Float8Products.of(loaded, chosen, emulated=float8 == "emulated", may_keep=may_keep)
            if taken.recorded:
                recorder = recorder_for(loaded.plan, chosen, may_keep=may_keep, progress=progress)
            return cls(loaded, device=chosen, dtype=precision, products=products, recorder=recorder)
        if float8:
            raise DeviceUnavailable("float8 is for edits on one device: leave it off, or name one device")
        if isinstance(memory, Arrangement):
            raise InputInvalid("several devices take an amount of memory, not an arrangement", field="memory")
        # Branches are what the devices share out, and what they tell each other is not recorded.
        taken = taken.without("one_by_one", "ahead", "recorded")
        # The other ranks load while this one does.
        group = Group(
            devices,
            source,
            dtype=str(precision).removeprefix("torch."),
            memory=memory,
            measures=taken,
            quantization=kept,
            progress=progress,
            on_loss=on_loss,
        )
        try:
            return cls(load(), device=chosen, dtype=precision, group=group)
        except BaseException:
            group.close()
            raise

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
        prompts = _prompts(settings)
        state = EditState(
            settings=settings,
            source=source,
            model=self._identity,
            prompt=prompts.prompt,
            warnings=self._warnings(prompts, settings),
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
        stage = self._stage(state.settings, schedule.timesteps, refine=state.step >= refine_from)
        with self._exact(), self._products.turned(on=state.float8):
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
            with self._exact():
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
        with self._exact():
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
        with self._exact():
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

    def _embeddings(self, text: str) -> tuple[PromptEmbeddings, bool]:
        def encode() -> tuple[PromptEmbeddings, bool]:
            with self._exact():
                embeddings, cut = self._loaded.text_encoders.encode(text)
                return embeddings.to(kept_on), cut

        kept_on = torch.device("cpu") if self.plan.texts_go_to_the_host else self._device
        return self._texts.get(text, encode)

    def _stage(self, settings: EditSettings, timesteps: tuple[float, ...], *, refine: bool) -> Stage:
        prompts = self._prompts_run(settings)
        guidance = Guidance(settings.guidance_scale, settings.image_guidance_scale, settings.normed_guidance)

        def make() -> Stage:
            texts = {Words.PROMPT: prompts.prompt, Words.NEGATIVE: prompts.negative, Words.TARGET: prompts.target}
            transformer = self._edit_transformer
            drops_dead = transformer.measures.dead_branches
            branches = refine_branches(guidance.scale) if refine else edit_branches(guidance, with_dead=not drops_dead)
            # Only what is read: where memory is short, each text moves all encoders.
            read = {branch.words for branch in branches}
            embeddings = {words: self._embeddings(texts[words])[0].to(self._device) for words in read}
            with self._exact():
                if refine:
                    if self._refine_transformer is None:
                        raise ValueError("settle() lets no refine stage pass without a model for it")
                    return refine_stage(
                        self._refine_transformer, embeddings, guidance_scale=guidance.scale, timesteps=timesteps
                    )
                return edit_stage(transformer, embeddings, guidance, timesteps)

        return self._stages.get((prompts, guidance, refine, timesteps), make)

    def _is_recognised(self, prompt: str) -> bool:
        vocabulary = self.model.vocabulary
        return vocabulary is None or bool(vocabulary.families_in(self._embeddings(prompt)[0].pooled[0].tolist()))

    def _prompts_run(self, settings: EditSettings) -> Prompts:
        """What the branches read. Embeddings of words that a small model does not know still hold traces of edits."""
        prompts = _prompts(settings)
        vocabulary = self.model.vocabulary
        if vocabulary is None or self._is_recognised(prompts.prompt):
            return prompts
        keep = compose_prompt(vocabulary.keep, "")
        return prompts._replace(prompt=keep, target=keep)

    def _warnings(self, prompts: Prompts, settings: EditSettings) -> tuple[str, ...]:
        _, cut = self._embeddings(prompts.prompt)
        warnings = []
        if cut:
            rows = self._loaded.text_encoders.tokenizers.rows
            warnings.append(f"the prompt is longer than {rows} tokens; its tail was cut off")
        wanted = self.model.defaults.steps_wanted(settings.guidance_scale)
        if settings.guidance_scale > 1 and settings.num_inference_steps < wanted:
            warnings.append(
                f"with a guidance scale of {settings.guidance_scale:g} {self.model.name} wants {wanted} steps; "
                "with fewer the picture may be overdone"
            )
        if not self._is_recognised(prompts.prompt):
            warnings.append(
                f"the instruction was not recognised and the picture comes back as it is; {self.model.name} knows "
                "the edits that `hidream-edit models --edits` lists"
            )
        return tuple(warnings)

    @contextlib.contextmanager
    def _exact(self) -> Iterator[None]:
        """No gradients, and no TF32 where float32 was asked for."""
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield


def _prompts(settings: EditSettings) -> Prompts:
    return prompts_of(settings.edit_instruction, settings.target_image_description, settings.negative_prompt)


def _digest(canvas: Tensor) -> bytes:
    """Tells pictures (H, W, 3) apart."""
    return hashlib.sha256(repr(tuple(canvas.shape)).encode() + canvas.contiguous().numpy().tobytes()).digest()
