"""The published way of computing an edit, kept plain: the yardstick of the tests and of the benchmarks.

Written from model.md on the library's own transformer and samplers: everything recomputed in every step, the adapter
unmerged, experts looped over on the host. It shares no code with the engine, so that both can only agree by computing
the same thing.

Waste of the published script that is not part of its method is left out, in its favour: it encodes more texts than it
reads, asks for attention maps, and reads its dictionaries anew for every request (model.md 14).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    HiDreamImageTransformer2DModel,
    UniPCMultistepScheduler,
)
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModelWithProjection, LlamaForCausalLM, T5EncoderModel

TEXT_ROWS = 128


@dataclass
class PlainEdit:
    """What came out, and what it came from."""

    source_latents: Tensor
    noise: Tensor
    latents: Tensor
    pixels: Tensor


@dataclass
class PlainParts:
    """The components of a model, each of its library's own class."""

    clips: list[Any]  # CLIP-L, CLIP-G
    t5: Any
    llama: Any
    vae: Any
    transformer: Any
    tokenizers: list[Any]  # in the order of the encoders
    scheduler_config: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, *, dtype: torch.dtype, device: str) -> PlainParts:
        """Read a folder in the public layout."""

        def component(library_class: Any, name: str) -> Any:
            return library_class.from_pretrained(folder / name, torch_dtype=dtype).to(device).eval()

        autoencoders = {one.__name__: one for one in (AutoencoderKL, AutoencoderDC)}
        transformer = component(HiDreamImageTransformer2DModel, "transformer")
        _widen(transformer, folder / "transformer")
        return cls(
            [component(CLIPTextModelWithProjection, name) for name in ("text_encoder", "text_encoder_2")],
            component(T5EncoderModel, "text_encoder_3"),
            component(LlamaForCausalLM, "text_encoder_4"),
            component(autoencoders[_read_json(folder / "vae" / "config.json")["_class_name"]], "vae"),
            transformer,
            [
                AutoTokenizer.from_pretrained(folder / name)
                for name in ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4")
            ],
            _read_json(folder / "scheduler" / "scheduler_config.json"),
        )


class PlainPipeline:
    """All components of a model folder, in one dtype on one device."""

    def __init__(
        self,
        model: Path | PlainParts,
        *,
        adapter: Path | dict[str, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        tail_patch_embedder: str = "e1",
    ) -> None:
        self.device, self.dtype = device, dtype
        parts = model if isinstance(model, PlainParts) else PlainParts.read(model, dtype=dtype, device=device)
        self.clips, self.t5, self.llama, self.vae = parts.clips, parts.t5, parts.llama, parts.vae
        self.transformer, self.tokenizers = parts.transformer, parts.tokenizers
        self.tokenizers[3].pad_token = self.tokenizers[3].eos_token
        self.scheduler_config = parts.scheduler_config
        self.adapter_is_on = True
        self.tail_patch_embedder = tail_patch_embedder
        self.patch_embedders: dict[str, tuple[Tensor, Tensor]] = {}
        if adapter is not None:
            self._put_on(load_file(adapter) if isinstance(adapter, Path) else dict(adapter))

    def _put_on(self, pieces: dict[str, Tensor]) -> None:
        """Add the low-rank products beside the linears they adapt, without merging."""
        embedder = self.transformer.x_embedder.proj
        self.patch_embedders["i1"] = (embedder.weight.data, embedder.bias.data)
        replaced = (pieces.pop("x_embedder.proj.weight"), pieces.pop("x_embedder.proj.bias"))
        self.patch_embedders["e1"] = (replaced[0].to(embedder.weight), replaced[1].to(embedder.weight))
        embedder.weight.data, embedder.bias.data = self.patch_embedders["e1"]
        for name in [name for name in pieces if ".lora_A." in name]:
            linear = self.transformer.get_submodule(name.split(".lora_A.")[0])
            down = pieces[name].to(linear.weight)
            up = pieces[name.replace(".lora_A.", ".lora_B.")].to(linear.weight)

            def beside(_: Any, inputs: tuple[Tensor], output: Tensor, down: Tensor = down, up: Tensor = up) -> Tensor:
                return output + F.linear(F.linear(inputs[0], down), up) if self.adapter_is_on else output

            linear.register_forward_hook(beside)

    def text(self, words: str) -> tuple[Tensor, Tensor, Tensor]:
        """T5 (1, rows, width), Llama (layers, 1, rows, width) and pooled (1, width) of ``words``."""
        rows = min(TEXT_ROWS, *(tokenizer.model_max_length for tokenizer in self.tokenizers))
        tokens = [
            tokenizer(words, padding="max_length", max_length=rows, truncation=True, return_tensors="pt").to(
                self.device
            )
            for tokenizer in self.tokenizers
        ]
        pooled = [clip(ids.input_ids).text_embeds for clip, ids in zip(self.clips, tokens[:2], strict=True)]
        t5 = self.t5(tokens[2].input_ids, attention_mask=tokens[2].attention_mask)[0]
        llama = self.llama(tokens[3].input_ids, attention_mask=tokens[3].attention_mask, output_hidden_states=True)
        return t5, torch.stack(llama.hidden_states[1:]), torch.cat(pooled, dim=-1)

    def scheduler(self) -> Any:
        """A fresh sampler of the folder's config."""
        classes = {cls.__name__: cls for cls in (UniPCMultistepScheduler, FlowMatchEulerDiscreteScheduler)}
        return classes[self.scheduler_config["_class_name"]].from_config(self.scheduler_config)

    def forward(self, canvas: Tensor, time: Tensor, texts: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """The raw output for one row per text."""
        return self.transformer(  # type: ignore[no-any-return]
            canvas,
            timesteps=time.expand(len(canvas)).to(self.device),
            encoder_hidden_states_t5=torch.cat([text[0] for text in texts]),
            encoder_hidden_states_llama3=torch.cat([text[1] for text in texts], dim=1),
            pooled_embeds=torch.cat([text[2] for text in texts]),
            return_dict=False,
        )[0]

    @torch.no_grad()
    def edit(
        self,
        source: Image.Image,
        *,
        prompt: str,
        negative: str,
        steps: int,
        guidance_scale: float,
        image_guidance_scale: float,
        normed: bool,
        seed: int,
        refine_strength: float = 0.0,
        target: str = "",
        on_step: Callable[[int], None] = lambda _: None,
    ) -> PlainEdit:
        """One image; ``source`` has both sides at multiples of sixteen. ``on_step`` hears how many steps are done."""
        data = torch.frombuffer(bytearray(source.tobytes()), dtype=torch.uint8).view(source.height, source.width, 3)
        pixels = (data.permute(2, 0, 1)[None].float() / 255 * 2 - 1).to(self.device, self.dtype)
        shift, scaling = self.vae.config.get("shift_factor") or 0.0, self.vae.config.scaling_factor
        image = (_mode(self.vae.encode(pixels)) - shift) * scaling
        positive = self.text(prompt)
        negated = self.text(negative) if guidance_scale > 1 else positive  # not read without guidance
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)
        latents = noise.to(self.device)
        scheduler = self.scheduler()
        scheduler.set_timesteps(steps)
        tail_start = int(steps * (1.0 - refine_strength))
        width = image.shape[-1]
        on_step(0)
        for index, time in enumerate(scheduler.timesteps):
            if index < tail_start:
                if guidance_scale > 1:
                    texts = [positive if normed else negated, negated, positive]
                    right = torch.cat([torch.zeros_like(image), image, image])
                else:
                    texts, right = [positive], image
                canvas = torch.cat([latents.repeat(len(texts), 1, 1, 1), right], dim=-1)
                output = -self.forward(canvas, time, texts)[..., :width]
                velocity = _guided(output, guidance_scale, image_guidance_scale, normed=normed)
            else:
                self._enter_tail()
                texts = [negated, self.text(target)] if guidance_scale > 1 else [self.text(target)]
                output = -self.forward(latents.repeat(len(texts), 1, 1, 1), time, texts)
                velocity = output[:1] + guidance_scale * (output[1:] - output[:1]) if len(texts) == 2 else output
            latents = scheduler.step(velocity, time, latents, return_dict=False)[0]
            on_step(index + 1)
        self._leave_tail()
        decoded = self.vae.decode(latents / scaling + shift).sample
        return PlainEdit(image, noise, latents, decoded)

    def _enter_tail(self) -> None:
        self.adapter_is_on = False
        self._wear(self.tail_patch_embedder)

    def _leave_tail(self) -> None:
        self.adapter_is_on = True
        self._wear("e1")

    def _wear(self, whose: str) -> None:
        if self.patch_embedders:
            embedder = self.transformer.x_embedder.proj
            embedder.weight.data, embedder.bias.data = self.patch_embedders[whose]


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def _widen(transformer: Any, folder: Path) -> None:
    """Matrices that the folder stores in 8 bits beside one scale per row, at their full width."""
    weights = dict(transformer.named_parameters())
    for file in sorted(folder.glob("*.safetensors")):
        stored = load_file(file)
        for name in [name.removesuffix(".scale") for name in stored if name.endswith(".scale")]:
            weights[name].data.copy_(stored[name].float() * stored[f"{name}.scale"].float())


def _mode(encoded: Any) -> Tensor:
    """The latents of an autoencoder that has a posterior, or of one that has none."""
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent  # type: ignore[no-any-return]


def _guided(output: Tensor, text_scale: float, image_scale: float, *, normed: bool) -> Tensor:
    if len(output) == 1:
        return output
    nothing, image, everything = output.chunk(3)
    if not normed:
        return nothing + image_scale * (image - nothing) + text_scale * (everything - image)
    guided = image + text_scale * (everything - image)
    shrink = everything.norm(dim=1, keepdim=True) / (guided.norm(dim=1, keepdim=True) + 1e-8)
    return nothing + image_scale * (shrink.clamp(0, 1) * guided - nothing)
