"""What a stage calls: a transformer, wherever it computes."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.transformer import TextTokens


class Denoiser(Protocol):
    """See `Transformer`, whose methods these are; `GroupTransformer` is another."""

    @property
    def config(self) -> TransformerConfig: ...

    @property
    def measures(self) -> Measures: ...

    def project_text(self, t5: Tensor, llama: Tensor) -> TextTokens: ...

    def __call__(
        self, canvas: Tensor, timesteps: Tensor, text: TextTokens, pooled: Tensor, *, noise_columns: int | None = None
    ) -> Tensor: ...
