"""What a model makes of the words of an edit."""

from __future__ import annotations

import torch

from hidream_edit.domain.edit import EditSettings
from hidream_edit.engine.cards import ModelCard
from hidream_edit.engine.devices import exact_inference
from hidream_edit.engine.memory.activations import TEXTS_KEPT
from hidream_edit.engine.prompts import Prompts, compose_prompt, prompts_of
from hidream_edit.engine.recent import Recent
from hidream_edit.engine.text_encoders import PromptEmbeddings, TextEncoders


class PromptReader:
    """Reads texts, the last of which it keeps, and says what a model does with an edit's words.

    Args:
        encoders: of the model.
        card: its vocabulary, where it has one, says which words it knows.
        device: where embeddings are wanted.
        kept_on: where they are kept.
    """

    def __init__(self, encoders: TextEncoders, card: ModelCard, *, device: torch.device, kept_on: torch.device) -> None:
        self._encoders, self._card = encoders, card
        self._device, self._kept_on = device, kept_on
        self._texts: Recent[str, tuple[PromptEmbeddings, bool]] = Recent(TEXTS_KEPT)

    def embeddings(self, text: str) -> PromptEmbeddings:
        """Of ``text``, on the device."""
        return self._read(text)[0].to(self._device)

    def knows(self, prompt: str) -> bool:
        """Whether it asks for an edit of the model's vocabulary; a model without one knows all."""
        vocabulary = self._card.vocabulary
        return vocabulary is None or bool(vocabulary.families_in(self._read(prompt)[0].pooled[0].tolist()))

    def prompts(self, settings: EditSettings) -> Prompts:
        """What the branches read. Embeddings of words that a small model does not know still hold traces of edits."""
        prompts, vocabulary = prompts_of(settings), self._card.vocabulary
        if vocabulary is None or self.knows(prompts.prompt):
            return prompts
        keep = compose_prompt(vocabulary.keep, "")
        return prompts._replace(prompt=keep, target=keep)

    def warnings(self, settings: EditSettings) -> tuple[str, ...]:
        """What whoever asks for such an edit should know before looking at the picture."""
        card, prompt = self._card, prompts_of(settings).prompt
        _, cut = self._read(prompt)
        warnings = []
        if cut:
            rows = self._encoders.tokenizers.rows
            warnings.append(f"the prompt is longer than {rows} tokens; its tail was cut off")
        wanted = card.defaults.steps_wanted(settings.guidance_scale)
        if settings.guidance_scale > 1 and settings.num_inference_steps < wanted:
            warnings.append(
                f"with a guidance scale of {settings.guidance_scale:g} {card.name} wants {wanted} steps; "
                "with fewer the picture may be overdone"
            )
        if not self.knows(prompt):
            warnings.append(
                f"the instruction was not recognised and the picture comes back as it is; {card.name} knows "
                "the edits that `hidream-edit models --edits` lists"
            )
        return tuple(warnings)

    def _read(self, text: str) -> tuple[PromptEmbeddings, bool]:
        """Embeddings where they are kept, and whether the text was too long."""

        def encode() -> tuple[PromptEmbeddings, bool]:
            with exact_inference():
                embeddings, cut = self._encoders.encode(text)
                return embeddings.to(self._kept_on), cut

        return self._texts.get(text, encode)
