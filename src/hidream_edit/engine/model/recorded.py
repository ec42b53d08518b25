"""A transformer whose forward is recorded once for each shape and then run again as one piece (a CUDA graph).

A forward of the real model launches thousands of kernels (model.md 14: 4,464 in the published code); a recording is
one launch. It computes over tensors of its own: inputs are copied into them, outputs out of them, and nothing of a
request stays but bytes that the next one overwrites.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from hidream_edit.engine.model.denoiser import Around
from hidream_edit.engine.model.transformer import ForwardInputs, Geometry, Modulations, TextTokens, Transformer

# Both stages of an edit, all branches and one alone, in two sizes.
RECORDINGS_KEPT = 8


class Recorder(Protocol):
    """Makes something that is run again out of something that is called."""

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What does all that ``compute`` did on the device, over the same memory, and gives the same tensor each time.

        That tensor holds its numbers until anything of this recorder runs again.
        """
        ...


class CudaRecorder:
    """Records what is launched as CUDA graphs, which share the memory of what they compute between.

    They may, because they never run at the same time and what one gave is copied before another runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Always the same one: memory that was taken on a stream is given out again on that stream only.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """See `Recorder`. ``compute`` runs twice: once for real, since kernels are chosen and compiled, and their
        workspaces made, when they are first used on a stream; then to be recorded, which computes nothing.

        Raises:
            RuntimeError: it asks the host for something.
        """
        graph = torch.cuda.CUDAGraph()
        pool = next((other.pool() for other in self._graphs), None)
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                compute()
            torch.cuda.current_stream().wait_stream(self._stream)
            # Other threads may go on using the device.
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                output = compute()
        self._graphs.add(graph)

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay


class Recording:
    """One forward over tensors of its own."""

    def __init__(self, transformer: Transformer, inputs: ForwardInputs, record: Recorder) -> None:
        self._transformer = transformer
        self._geometry: Geometry | None = None
        with torch.inference_mode(False):  # a tensor that is born in it may be written nowhere else
            self._inputs = _buffers(inputs)
        self._fill(inputs)
        self._replay = record(self._compute)

    def __call__(self, inputs: ForwardInputs) -> Tensor:
        """The output for ``inputs``, of the shapes that it was recorded with; nobody writes to it later."""
        self._fill(inputs)
        return self._replay().clone()

    def _fill(self, inputs: ForwardInputs) -> None:
        for mine, given in zip(_tensors(self._inputs), _tensors(inputs), strict=True):
            mine.copy_(given)

    def _compute(self) -> Tensor:
        tokens, given = self._transformer.enter(self._inputs)
        # Its tensors are read again each time, also when the transformer keeps them no longer.
        self._geometry = given.geometry
        return self._transformer.leave(self._transformer.run(tokens, given), given)


class Recordings:
    """Those of all transformers of a model.

    When there are too many, all are dropped, and not the oldest alone. PyTorch gives the kernels of all graphs that
    were recorded on a stream one workspace, and takes it away with any of them (pytorch issue 193402), and they share
    memory only if they share a stream.
    """

    def __init__(self, record: Recorder, *, count_max: int = RECORDINGS_KEPT) -> None:
        self._record, self._count_max = record, count_max
        self._kept: dict[Hashable, Recording] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def run(self, transformer: Transformer, inputs: ForwardInputs) -> Tensor:
        """As `Transformer.forward`, recorded now unless such a forward was recorded before.

        Raises:
            CanvasTooLarge: the canvas does not fit the model.
            RuntimeError: the forward cannot be recorded.
        """
        shapes = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in _tensors(inputs))
        key = (transformer, inputs.noise_columns, inputs.modulations is None, shapes)
        if key not in self._kept:
            if len(self._kept) >= self._count_max:
                self._kept.clear()
            self._kept[key] = Recording(transformer, inputs, self._record)
        return self._kept[key](inputs)


class RecordedTransformer(Around):
    """A transformer on one device, whose forwards are recorded."""

    def __init__(self, transformer: Transformer, recordings: Recordings) -> None:
        super().__init__(transformer)
        self._recordings = recordings

    def __call__(self, inputs: ForwardInputs, /) -> Tensor:
        """See `Transformer.forward`.

        Raises:
            CanvasTooLarge: the canvas does not fit the model.
            RuntimeError: the forward cannot be recorded.
        """
        return self._recordings.run(self.plain, inputs)


def _tensors(inputs: ForwardInputs) -> Iterator[Tensor]:
    """Every tensor of them, in one order."""
    yield from (inputs.canvas, inputs.timesteps, inputs.text.t5, *inputs.text.llama, inputs.pooled)
    if inputs.modulations is not None:
        yield from (inputs.modulations.conditioning, *inputs.modulations.blocks, inputs.modulations.final)


def _buffers(inputs: ForwardInputs) -> ForwardInputs:
    """Inputs of the same shapes, with anything in their tensors."""
    modulations = inputs.modulations
    return ForwardInputs(
        _like(inputs.canvas),
        _like(inputs.timesteps),
        TextTokens(_like(inputs.text.t5), tuple(map(_like, inputs.text.llama))),
        _like(inputs.pooled),
        inputs.noise_columns,
        modulations
        and Modulations(
            _like(modulations.conditioning), tuple(map(_like, modulations.blocks)), _like(modulations.final)
        ),
    )


def _like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
