"""The transformer of each stage, as two views that share every weight that is the same in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.adapter import DOWN, REPLACED, UP, adapted_weight, merge
from hidream_edit.engine.as_stored import kept_as_stored
from hidream_edit.engine.checked_model import CheckedTransformers, PatchEmbedderOf, blueprint, shapes_of
from hidream_edit.engine.memory.placing import streamed_names
from hidream_edit.engine.memory.plan import MemoryPlan
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.measures import Measures
from hidream_edit.engine.model.rebuilding import rebuild
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.quality.quantized import linear_weights, packed_under, quantize
from hidream_edit.engine.safetensors_files import TensorHeader, load_each

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How weights are kept and computed with."""

    device: torch.device
    dtype: torch.dtype
    measures: Measures
    quantization: Quantization
    progress: Callable[[str], None]


def load_stages(
    found: CheckedTransformers, patch_embedder: PatchEmbedderOf, plan: MemoryPlan, options: LoadOptions
) -> tuple[Transformer, Transformer | None]:
    """The transformers of the edit stage and, where the model has one, of the refine stage.

    "As shipped" the refine stage runs the base model with the patch embedder of E1 (model.md 11.1).
    """
    weights, adapter = _Weights(found, plan, options), found.adapter
    edit: dict[str, Tensor] = {}
    refine: dict[str, Tensor] = {}
    if adapter is None:
        for name, weight in weights.read(found.headers):
            edit |= weights.kept(name, weight)
    else:
        pieces = dict(load_each(adapter, names=adapter, device=options.device, dtype=None))
        adapted = {adapted_weight(name): name for name in pieces if name.endswith(DOWN)}
        for name, weight in weights.read(found.headers):
            plain = weights.kept(name, weight)
            if found.base is None:
                refine |= weights.kept_for_refining(name, weight, plain)
            if name in REPLACED:
                edit[name] = pieces[name].to(options.dtype)
            elif name in adapted:
                down = adapted[name]
                # Merged on the device wherever the weight is kept, so that every plan computes with the same numbers.
                merged = merge(weight.to(options.device), pieces[down], pieces[down.replace(DOWN, UP)])
                edit |= weights.kept(name, merged.to(weight.device))
            else:
                edit |= plain
    if found.base is not None:
        for name, weight in weights.read(found.base):
            refine |= weights.kept_for_refining(name, weight, weights.kept(name, weight))
    config, measures, quantization = found.config, options.measures, options.quantization
    if not refine:
        return assembled(config, measures, edit, quantization), None
    if patch_embedder == "e1":
        refine |= {name: edit[name] for name in REPLACED}
    return assembled(config, measures, edit, quantization), assembled(config, measures, refine, quantization)


class _Weights:
    """Weights of a transformer, read to where the plan has them, and kept in as many bits as the options say."""

    def __init__(self, found: CheckedTransformers, plan: MemoryPlan, options: LoadOptions) -> None:
        self._options = options
        empty = blueprint(Transformer, found.config)
        self._wanted = [*shapes_of(empty)]
        self._streamed = streamed_names(self._wanted, plan)
        self._stored = kept_as_stored(found, options.dtype, options.measures)
        is_packed = options.quantization is not Quantization.NONE
        self._packed = linear_weights(empty) if is_packed else frozenset[str]()

    def read(self, headers: Mapping[str, TensorHeader]) -> Iterator[tuple[str, Tensor]]:
        """Every weight, where the plan has it."""
        options = self._options
        for where, is_streamed in ((options.device, False), (CPU, True)):
            names = [name for name in self._wanted if (name in self._streamed) is is_streamed]
            yield from load_each(headers, names=names, device=where, dtype=options.dtype, progress=options.progress)

    def kept(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """What stays in memory of a weight, under the names that the transformer has for it."""
        if name not in self._packed:
            return {name: weight}
        return packed_under(name, weight, self._options.quantization, on=self._options.device)  # as merging

    def kept_for_refining(self, name: str, weight: Tensor, plain: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same of a weight that the refine stage reads: ``plain``, which the edit stage may have too, or as narrow
        as its file where no other stage reads it."""
        return {name: weight.to(self._stored[name])} if name in self._stored else plain


def assembled(
    config: TransformerConfig,
    measures: Measures,
    weights: dict[str, Tensor],
    quantization: Quantization = Quantization.NONE,
) -> Transformer:
    """A transformer of ``weights``, which are taken out of the dictionary: a layer that is fused is a copy, and what it
    was made of must be free at once, or the model would be in memory twice."""
    with torch.device("meta"):
        transformer = Transformer(config, measures)
    if quantization is not Quantization.NONE:
        quantize(transformer, linear_weights(transformer), quantization)
    transformer.load_state_dict(weights, assign=True)
    weights.clear()
    return rebuild(transformer.eval().requires_grad_(False))
