"""A model whose random weights are made where they run, for sizes that no folder should hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.engine.models import facts_of
from benchmarks.engine.random_model import ADAPTED, ADAPTER_RANK
from benchmarks.memory import autoencoder, drawn, encoder
from benchmarks.plain_pipeline import PlainParts, PlainPipeline
from diffusers import HiDreamImageTransformer2DModel
from tests.support.tiny_checkpoint import UNIPC, write_checkpoint
from torch import Tensor

from hidream_edit.domain.edit import EditDefaults
from hidream_edit.engine.adapter import adapted_weight, merge
from hidream_edit.engine.cards import ModelCard
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.engine_parts import EngineParts
from hidream_edit.engine.folders import ModelFolder
from hidream_edit.engine.latents import Autoencoder
from hidream_edit.engine.library_parts import load_tokenizers
from hidream_edit.engine.loading import LoadedModel
from hidream_edit.engine.measures import measures_for
from hidream_edit.engine.memory.activations import TextSizes
from hidream_edit.engine.memory.plan import everything_resident
from hidream_edit.engine.memory.sizes import real_sizes, transformer_shapes
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.stage_transformers import assembled
from hidream_edit.engine.text_encoders import PromptEmbeddings, TextEncoders, Tokenizers

DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True)
class DeviceModel:
    """Every weight depends on its name alone, so that two processes hold the same ones.

    The plan is the real size's with everything resident, whatever the sizes here.
    """

    config: TransformerConfig
    texts: Mapping[str, TextSizes]
    text_rows: int = 128

    def engine(self, device: torch.device, dtype: torch.dtype, **options: Any) -> Engine:
        measures = options.pop("measures", None) or measures_for(device, dtype)
        if options:
            raise ValueError(f"weights made on the device take no {sorted(options)}")  # of `Engine.load`'s arguments
        clip_l, clip_g, t5, llama = self._encoders(device)
        encoders = WidenedTextEncoders if dtype == torch.float32 else TextEncoders
        loaded = LoadedModel(
            card=ModelCard("random", "", self.config.max_resolution[0] * 8, EditDefaults(), "random", is_random=True),
            text_encoders=encoders(_tokenizers(), clip_l, clip_g, t5, llama, device),
            autoencoder=autoencoder_in(device, dtype),
            edit_transformer=assembled(self.config, measures, self._weights(device, dtype, merged=True)),
            refine_transformer=None,
            scheduler_config=UNIPC,
            plan=everything_resident(real_sizes()),
        )
        return Engine(EngineParts.of(loaded, device, dtype))

    def plain(self, device: torch.device, dtype: torch.dtype) -> PlainPipeline:
        with torch.device("meta"):
            transformer: Any = HiDreamImageTransformer2DModel(**facts_of(self.config))
        transformer.load_state_dict(self._weights(device, dtype, merged=False), assign=True)
        clip_l, clip_g, t5, llama = self._encoders(device)
        tokenizers = _tokenizers()
        parts = PlainParts(
            clips=[clip_l, clip_g],
            t5=t5,
            llama=llama,
            vae=autoencoder_in(device, dtype).model,
            transformer=transformer.eval(),
            tokenizers=[tokenizers.clip_l, tokenizers.clip_g, tokenizers.t5, tokenizers.llama],
            scheduler_config=UNIPC,
        )
        return PlainPipeline(parts, adapter=self._adapter(device), dtype=dtype, device=str(device))

    def prepare(self) -> None:
        """Nothing is kept."""

    def _encoders(self, device: torch.device) -> list[Any]:
        return [encoder(name, sizes)(device) for name, sizes in self.texts.items()]

    def _adapter(self, device: torch.device) -> dict[str, Tensor]:
        pieces = {}
        for name, shape in transformer_shapes(self.config).items():
            if name.startswith("x_embedder"):
                pieces[name] = drawn(torch.Size(shape), f"adapter {name}", device)
            elif name.endswith(".weight") and any(part in name for part in ADAPTED):
                stem = name.removesuffix(".weight")
                pieces[stem + DOWN] = drawn(torch.Size((ADAPTER_RANK, shape[1])), stem + DOWN, device)
                pieces[stem + UP] = drawn(torch.Size((shape[0], ADAPTER_RANK)), stem + UP, device)
        return pieces

    def _weights(self, device: torch.device, dtype: torch.dtype, *, merged: bool) -> dict[str, Tensor]:
        pieces = self._adapter(device) if merged else {}
        replaced = {name for name in pieces if name.startswith("x_embedder")}
        adapted = {adapted_weight(name) for name in pieces} - replaced
        weights = {}
        for name, shape in transformer_shapes(self.config).items():
            weight = pieces[name] if name in replaced else drawn(torch.Size(shape), name, device)
            if name in adapted:
                stem = name.removesuffix(".weight")
                weight = merge(weight.to(dtype), pieces[stem + DOWN], pieces[stem + UP])
            weights[name] = weight.to(dtype)
        return weights


class WidenedTextEncoders(TextEncoders):
    """Encoders in bfloat16 whose embeddings are handed on in another precision.

    A run in float32 that bfloat16 ones are compared with then differs from them in the transformer and the
    autoencoder alone, and fits a card that could not hold the encoders in float32 as well.
    """

    def encode(self, text: str) -> tuple[PromptEmbeddings, bool]:
        embeddings, cut = TextEncoders.encode(self, text)
        return PromptEmbeddings(*(tensor.float() for tensor in embeddings)), cut


def autoencoder_in(device: torch.device, dtype: torch.dtype) -> Autoencoder:
    """The real autoencoder with drawn weights."""
    made = autoencoder(device, everything_resident(real_sizes()))
    made.model.to(dtype)
    return made


def _tokenizers() -> Tokenizers:
    """Those of the tiny model: what the words are does not matter to the work, their number is padded."""
    with TemporaryDirectory() as scratch:
        return load_tokenizers(ModelFolder(write_checkpoint(Path(scratch) / "tiny")), None)
