"""What a stage calls: a transformer, wherever it computes."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.transformer import ForwardInputs, Modulations, TextTokens, Transformer


class Denoiser(Protocol):
    """See `Transformer`, whose methods these are; `GroupTransformer` and `RecordedTransformer` are others."""

    @property
    def config(self) -> TransformerConfig: ...

    @property
    def measures(self) -> Measures: ...

    def project_text(self, t5: Tensor, llama: Tensor) -> TextTokens: ...

    def modulations(self, timesteps: Tensor, pooled: Tensor) -> Modulations: ...

    def __call__(self, inputs: ForwardInputs, /) -> Tensor: ...


class Denoisers(NamedTuple):
    """What the stages of a model call."""

    edit: Denoiser
    refine: Denoiser | None  # None: it has no refine stage


class Around:
    """A transformer whose forwards go another way; what a stage asks once, the transformer itself does."""

    def __init__(self, plain: Transformer) -> None:
        self.plain = plain

    @property
    def config(self) -> TransformerConfig:
        return self.plain.config

    @property
    def measures(self) -> Measures:
        return self.plain.measures

    def project_text(self, t5: Tensor, llama: Tensor) -> TextTokens:
        """See `Transformer.project_text`."""
        return self.plain.project_text(t5, llama)

    def modulations(self, timesteps: Tensor, pooled: Tensor) -> Modulations:
        """See `Transformer.modulations`."""
        return self.plain.modulations(timesteps, pooled)
