"""The edit of a small picture, carried over to the full-size source with the source's own detail.

The model sees a small version of the source and makes a small edit of it. Where the edit is explained by the source,
pixel by pixel or region by region, the same change is made to the full-size source, so nothing of it gets soft. Where
it is not (lines of a sketch, a mirror image, a blur, an added object), the small edit is enlarged as it is.

Three steps, all on the small pictures, after the ideas of bilateral guided upsampling (Chen et al. 2016) and the fast
guided filter (He and Sun 2015):

1. A colour map from source to edit for the whole picture: an affine map and a smooth table of what it misses.
2. Region by region and channel by channel, gain and offset from the mapped source to the edit, with gain 1 assumed
   until the region says otherwise; what remains is smoothed and added, which follows gradients such as a vignette.
3. Confidence: how much of the edit's fine structure the result reproduces, and whether it has any that the edit lacks.

Gain and offset, already mixed with the plain enlargement by confidence, are enlarged and applied to the full-size
source strip by strip, with channels innermost as they lie in pictures, so that no pass has to sort them. The model's
noise averages out in every one of these steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hidream_edit.engine.colour_map import ColourMapOfBytes, fit_colours
from hidream_edit.engine.filters import smooth, window_mean

REGION_RADIUS = 7  # pixels of the small picture
GAIN_CAUTION = 0.03**2  # variance below which a region tells nothing about its gain
RESIDUAL_SIGMA = 2.5
NOISE_ENERGY = 3 * 0.012**2  # fine structure below this is the model's noise
NOISE_CAP = 0.015**2  # per channel, in the band that is compared
CHI_SQUARE_MEDIAN = 2.37  # of three degrees of freedom: a median of squares → the variance
ERROR_RADIUS, ERROR_RANGE = 3, (2.0, 6.0)  # window in pixels; multiples of the noise
STRIP_PIXELS = 48_000  # a strip and what is made of it stay in the cache of a core
MANY_PIXELS = 1_000_000  # from here on a table for bytes is worth making
ROWS_AT_ONCE = 32  # of the small picture, when it is enlarged sideways


class LocalMap(NamedTuple):
    """Edit ≈ gain · mapped source + offset, both (3, h, w) at the small size."""

    gain: Tensor
    offset: Tensor


def restore_detail(source: Tensor, small_source: Tensor, small_edit: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Carry the edit ``small_source`` → ``small_edit`` over to ``source``.

    Args:
        source: (H, W, 3) uint8, the full-size picture.
        small_source: (h, w, 3) in 0…1, what the model saw of it.
        small_edit: (h, w, 3) in 0…1, what the model made.
        out: where the result is put; may be ``source`` itself, which then needs no second picture.

    Returns:
        (H, W, 3) uint8 at the source's size.
    """
    seen, made = (part.permute(2, 0, 1).float() for part in (small_source, small_edit))
    colours = fit_colours(seen, made)
    local = fit_regions(colours(small_source.float()).permute(2, 0, 1), made)
    result = torch.empty_like(source) if out is None else out
    height, width = source.shape[:2]
    of_bytes = ColourMapOfBytes(colours) if height * width >= MANY_PIXELS else None
    columns = _columns(local, width)
    taps, weights = _taps(columns.shape[0], height)
    shares = torch.zeros(height, columns.shape[0]).scatter_add_(1, taps.T.contiguous(), weights.T.contiguous())
    strip_rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, strip_rows):
        rows = slice(top, min(top + strip_rows, height))
        pixels = source[rows].reshape(-1, 3)
        mapped = colours(pixels / 255) if of_bytes is None else of_bytes(pixels)
        near = slice(int(taps[0, top]), int(taps[3, rows.stop - 1]) + 1)
        gain, offset = (shares[rows, near] @ columns[near].flatten(1)).view(-1, 2, width * 3).unbind(1)
        edited = torch.addcmul(offset, gain, mapped.reshape(gain.shape)).clamp_(0, 255)
        result[rows] = edited.view(-1, width, 3)
    return result


def _columns(local: LocalMap, width: int) -> Tensor:
    """Gain and offset in levels, as wide as the picture and as high as the small one: (h, 2, width · 3), with channels
    innermost as in pictures. The offset has a half more, so that cutting off rounds."""
    maps = torch.stack((local.gain * 255, local.offset * 255 + 0.5))
    return _stretched(maps.permute(2, 0, 3, 1).contiguous(), width)


def fit_regions(mapped: Tensor, made: Tensor) -> LocalMap:
    """Gain and offset per region from the mapped source to the edit, mixed with the plain edit by confidence."""
    mapped_mean, made_mean = _mean(mapped), _mean(made)
    variance = _mean(mapped**2) - mapped_mean**2
    covariance = _mean(mapped * made) - mapped_mean * made_mean
    gain = (covariance + GAIN_CAUTION) / (variance.clamp(min=0) + GAIN_CAUTION)
    gain, offset = _mean(gain), _mean(made_mean - gain * mapped_mean)
    explained = gain * mapped + offset
    offset = offset + smooth(made - explained, RESIDUAL_SIGMA)
    confidence = _confidence(gain * mapped + offset, made)
    return LocalMap(confidence * gain, confidence * offset + (1 - confidence) * made)


def _confidence(explained: Tensor, made: Tensor) -> Tensor:
    """(1, h, w) in 0…1: whether the fine structure of ``explained`` is that of ``made``.

    Compared in a band that the model's autoencoder keeps; structure as weak as noise counts as agreement.
    """
    ours, theirs = (smooth(part, 0.8) - smooth(part, 3.0) for part in (explained, made))
    shared, energy = (ours * theirs).sum(0, keepdim=True), (ours**2).sum(0, keepdim=True)
    # A region without structure goes by the whole picture: in a blurred one, its grain is gone too.
    elsewhere = ((shared.mean() + NOISE_ENERGY / 9) / (energy.mean() + NOISE_ENERGY / 9)).clamp(0, 1)
    common = _mean(shared) + NOISE_ENERGY * elsewhere
    of_ours = _mean(energy) + NOISE_ENERGY
    of_theirs = _mean((theirs**2).sum(0, keepdim=True)) + NOISE_ENERGY
    reproduced = common / of_ours  # about 1; lower where the edit has lost structure that the source has
    agreement = common.clamp(min=0) ** 2 / (of_ours * of_theirs)
    error = ((ours - theirs) ** 2).sum(0, keepdim=True)
    # Half of the places are surely no worse than noise; more noise than the cap is no noise.
    noise = (error.median() / CHI_SQUARE_MEDIAN).clamp(NOISE_ENERGY / 3, NOISE_CAP)
    unexplained = window_mean(error, ERROR_RADIUS) / (3 * noise)
    believable = 1 - _ramp(unexplained, *ERROR_RANGE)
    return smooth(_ramp(reproduced, 0.45, 0.8) * _ramp(agreement, 0.3, 0.65) * believable, 2.0)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _mean(values: Tensor) -> Tensor:
    """Over a region around each pixel."""
    return window_mean(values, REGION_RADIUS)


def _taps(small: int, large: int) -> tuple[Tensor, Tensor]:
    """For each of ``large`` places, four of ``small`` and their weights, both (4, large): cubic convolution, a = −½."""
    centre = (torch.arange(large, dtype=torch.float64) + 0.5) * small / large - 0.5
    first = centre.floor() - 1
    taps = first + torch.arange(4, dtype=torch.float64)[:, None]
    distance = (centre - taps).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    weights = weights / weights.sum(0)
    return taps.clamp(0, small - 1).long(), weights.float()


def _stretched(maps: Tensor, width: int) -> Tensor:
    """Enlarge (h, 2, w, 3) to ``width``: (h, 2, width · 3)."""
    height = maps.shape[0]
    taps, weights = _taps(maps.shape[2], width)
    weights = weights.repeat_interleave(3, dim=1)
    stretched = torch.empty(height, 2, width * 3)
    for top in range(0, height, ROWS_AT_ONCE):
        part, to = maps[top : top + ROWS_AT_ONCE], stretched[top : top + ROWS_AT_ONCE]
        torch.mul(part.index_select(2, taps[0]).view(to.shape), weights[0], out=to)
        for k in range(1, 4):
            to.addcmul_(part.index_select(2, taps[k]).view(to.shape), weights[k])
    return stretched
