"""Matrix products of linear layers, plain or by oneDNN.

A weight may be narrower than the rows it meets, as its file has it (`hidream_edit.engine.as_stored`): it is widened for
the product, which loses nothing, and dropped again.

On a CPU, PyTorch gives float32 products to MKL, which takes half of the vector width of processors that Intel did not
make. oneDNN, which comes with PyTorch too and serves its convolutions, takes all of it: measured at twice the rate
(benchmarks/LOG.md), with the activation done where the output is written.
"""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def onednn_is_here() -> bool:
    """Whether this build of PyTorch has the kernels, and they are made for this processor."""
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def multiply(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows (…, inputs) · weight (outputs, inputs)ᵀ + bias."""
    return F.linear(rows, weight.to(rows.dtype), bias)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, then: str = "none") -> Tensor:
    """rows (…, inputs) · weight (outputs, inputs)ᵀ + bias by oneDNN, then nothing or ``swish``, in one pass."""
    done: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight.to(rows.dtype), bias, then, [], "")  # noqa: SLF001 - no public name
    return done


class Linear(nn.Linear):
    """A linear layer that can be told to use oneDNN."""

    by_onednn = False

    def forward(self, rows: Tensor) -> Tensor:
        if self.by_onednn:
            return product(rows, self.weight, self.bias)
        return multiply(rows, self.weight, self.bias)
