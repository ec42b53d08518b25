"""Means and blurs as sums of shifted copies, beside the library's pooling and convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hidream_edit.engine.filters import smooth, window_mean

SHAPES = [(3, 40, 57), (1, 5, 90), (3, 1, 1), (2, 200, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 3, 7])
def test_a_mean_is_that_of_pooling_and_counts_only_what_is_inside(shape: tuple[int, int, int], radius: int) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(radius))
    size = 2 * radius + 1
    pooled = F.avg_pool2d(values[None], size, stride=1, padding=radius, count_include_pad=False)[0]
    torch.testing.assert_close(window_mean(values, radius), pooled, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.5])
def test_a_blur_is_that_of_convolution_with_the_edge_repeated(shape: tuple[int, int, int], sigma: float) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    reach = max(1, round(3 * sigma))
    line = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    square = (line[:, None] * line) / line.sum() ** 2
    padded = F.pad(values[:, None].double(), (reach, reach, reach, reach), mode="replicate")
    blurred = F.conv2d(padded, square[None, None])[:, 0].float()
    torch.testing.assert_close(smooth(values, sigma), blurred, rtol=0, atol=2e-6)
