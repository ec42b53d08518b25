"""Four encoders turn a text into what the transformer reads (model.md 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

TEXT_ROWS = 128  # the trained length; a model folder may shorten it through its tokenizers' model_max_length
CLIP_ROWS_MAX = 218
CPU = torch.device("cpu")


class PromptEmbeddings(NamedTuple):
    """One text, encoded."""

    t5: Tensor  # (1, rows, t5 width): last hidden state, pad rows included
    llama: Tensor  # (layers, 1, rows, llama width): after layers 1…n, the last one after the final norm
    pooled: Tensor  # (1, CLIP-L projection + CLIP-G projection)

    def to(self, device: torch.device) -> PromptEmbeddings:
        """The same numbers on ``device``."""
        return PromptEmbeddings(*(tensor.to(device) for tensor in self))


class Tokens(NamedTuple):
    """What the encoders are given: ids (1, rows) and, for T5 and Llama, masks."""

    clip_l: Tensor
    clip_g: Tensor
    t5: Tensor
    t5_mask: Tensor
    llama: Tensor
    llama_mask: Tensor
    cut: bool  # whether any of them lost its tail


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """The four tokenizers of a model folder."""

    clip_l: Any
    clip_g: Any
    t5: Any
    llama: Any
    rows: int = TEXT_ROWS

    def __call__(self, text: str) -> Tokens:
        """Pad and cut ``text`` to exactly ``rows`` tokens for each encoder."""
        clip_rows = min(self.rows, CLIP_ROWS_MAX)
        clip_l, cut_l, _ = self._ids(self.clip_l, text, clip_rows)
        clip_g, cut_g, _ = self._ids(self.clip_g, text, clip_rows)
        t5, cut_t5, t5_mask = self._ids(self.t5, text, self.rows)
        llama, cut_llama, llama_mask = self._ids(self.llama, text, self.rows)
        cut = cut_l or cut_g or cut_t5 or cut_llama
        return Tokens(clip_l, clip_g, t5, t5_mask, llama, llama_mask, cut)

    @staticmethod
    def _ids(tokenizer: Any, text: str, rows: int) -> tuple[Tensor, bool, Tensor]:
        whole = tokenizer(text, truncation=False, verbose=False)["input_ids"]
        padded = tokenizer(
            text,
            padding="max_length",
            max_length=rows,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return padded["input_ids"], len(whole) > rows, padded["attention_mask"]


class Lender(Protocol):
    """An encoder that is elsewhere and comes to the device for the time of a loan."""

    def lent(self) -> AbstractContextManager[nn.Module]: ...


@dataclass(frozen=True, slots=True)
class TextEncoders:
    """The four frozen encoders with their tokenizers."""

    tokenizers: Tokenizers
    clip_l: nn.Module | Lender
    clip_g: nn.Module | Lender
    t5: nn.Module | Lender
    llama: nn.Module | Lender  # without its language-model head
    device: torch.device = CPU

    def encode(self, text: str) -> tuple[PromptEmbeddings, bool]:
        """Embeddings of ``text``, and whether it was too long and lost its tail."""
        tokens = self.tokenizers(text)
        device = self.device
        # One after the other: encoders that are elsewhere are never on the device together.
        with torch.inference_mode():
            # CLIP gets no mask: it is causal, so pads cannot reach the end-of-text position.
            with _at_work(self.clip_l) as clip_l:
                pooled_l = clip_l(tokens.clip_l.to(device)).text_embeds
            with _at_work(self.clip_g) as clip_g:
                pooled_g = clip_g(tokens.clip_g.to(device)).text_embeds
            with _at_work(self.t5) as encoder:
                t5 = encoder(tokens.t5.to(device), attention_mask=tokens.t5_mask.to(device)).last_hidden_state
            with _at_work(self.llama) as llama:
                layers = llama(
                    tokens.llama.to(device),
                    attention_mask=tokens.llama_mask.to(device),
                    output_hidden_states=True,
                    use_cache=False,
                ).hidden_states
        return PromptEmbeddings(t5, torch.stack(layers[1:]), torch.cat((pooled_l, pooled_g), dim=-1)), tokens.cut


def _at_work(encoder: nn.Module | Lender) -> AbstractContextManager[nn.Module]:
    return nullcontext(encoder) if isinstance(encoder, nn.Module) else encoder.lent()
