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
source strip by strip. The model's noise averages out in every one of these steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TABLE_SIDE = 13  # cells of the colour table along each channel
TABLE_CAUTION = 6.0  # pixels that a cell must hold before it is believed
REGION_RADIUS = 7  # pixels of the small picture
GAIN_CAUTION = 0.03**2  # variance below which a region tells nothing about its gain
RESIDUAL_SIGMA = 2.5
NOISE_ENERGY = 3 * 0.012**2  # fine structure below this is the model's noise
NOISE_CAP = 0.015**2  # per channel, in the band that is compared
CHI_SQUARE_MEDIAN = 2.37  # of three degrees of freedom: a median of squares → the variance
ERROR_RADIUS, ERROR_RANGE = 3, (2.0, 6.0)  # window in pixels; multiples of the noise
STRIP_PIXELS = 32_000  # a strip and what is made of it stay in the cache of a core


class LocalMap(NamedTuple):
    """Edit ≈ gain · mapped source + offset, both (3, h, w) at the small size."""

    gain: Tensor
    offset: Tensor


class ColourMap(NamedTuple):
    """Affine part (3, 4) and table of corrections (1, 3, side, side, side), indexed blue, green, red."""

    affine: Tensor
    table: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """(3, h, w) in 0…1 → the same."""
        mapped = torch.einsum("oc,chw->ohw", self.affine[:, :3], pixels) + self.affine[:, 3, None, None]
        grid = (pixels.permute(1, 2, 0) * 2 - 1)[None, None]
        missed = F.grid_sample(self.table, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return mapped + missed[0, :, 0]


def restore_detail(source: Tensor, small_source: Tensor, small_edit: Tensor) -> Tensor:
    """Carry the edit ``small_source`` → ``small_edit`` over to ``source``.

    Args:
        source: (H, W, 3) uint8, the full-size picture.
        small_source: (h, w, 3) in 0…1, what the model saw of it.
        small_edit: (h, w, 3) in 0…1, what the model made.

    Returns:
        (H, W, 3) uint8 at the source's size.
    """
    seen, made = (part.permute(2, 0, 1).float() for part in (small_source, small_edit))
    colours = fit_colours(seen, made)
    local = fit_regions(colours(seen), made)
    height, width = source.shape[:2]
    columns = _stretched(torch.cat((local.gain, local.offset)), width, axis=2)
    result = torch.empty_like(source)
    strip_rows = max(1, STRIP_PIXELS // width)
    taps, weights = _taps(columns.shape[1], height)
    for top in range(0, height, strip_rows):
        rows = slice(top, min(top + strip_rows, height))
        maps = torch.stack([weights[k, rows, None] * columns[:, taps[k, rows]] for k in range(4)]).sum(0)
        mapped = colours(source[rows].permute(2, 0, 1).float() / 255)
        edited = maps[:3] * mapped + maps[3:]
        result[rows] = (edited.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return result


def fit_colours(seen: Tensor, made: Tensor) -> ColourMap:
    """The colour map that best turns ``seen`` into ``made``, both (3, h, w)."""
    points, wanted = seen.flatten(1), made.flatten(1)
    inputs = torch.cat((points, torch.ones_like(points[:1])))
    gram = inputs @ inputs.T
    caution = 1e-3 * inputs.shape[1] * torch.eye(4)
    # Drawn towards the map that changes nothing, so that a picture of one colour has a map too.
    identity = torch.eye(3, 4)
    affine = torch.linalg.solve(gram + caution, inputs @ wanted.T + caution @ identity.T).T
    missed = wanted - affine @ inputs

    position = points.clamp(0, 1) * (TABLE_SIDE - 1)
    floor = position.floor().clamp(max=TABLE_SIDE - 2)
    fraction = position - floor
    weight = torch.zeros(TABLE_SIDE**3)
    total = torch.zeros(3, TABLE_SIDE**3)
    for corner in range(8):
        offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])[:, None]
        share = torch.where(offset == 1, fraction, 1 - fraction).prod(0)
        red, green, blue = (floor + offset).long()
        cell = (blue * TABLE_SIDE + green) * TABLE_SIDE + red
        weight += torch.bincount(cell, share, TABLE_SIDE**3)
        total += torch.stack([torch.bincount(cell, share * channel, TABLE_SIDE**3) for channel in missed])
    cube = torch.cat((total, weight[None])).view(4, 1, TABLE_SIDE, TABLE_SIDE, TABLE_SIDE)
    kernel = torch.tensor([0.2, 0.6, 0.2])
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 3
        padding = [0, 0, 0]
        padding[axis] = 1
        cube = F.conv3d(cube, kernel.view(shape), padding=padding)
    table = cube[:3, 0] / (cube[3:, 0] + TABLE_CAUTION)
    return ColourMap(affine, table[None])


def fit_regions(mapped: Tensor, made: Tensor) -> LocalMap:
    """Gain and offset per region from the mapped source to the edit, mixed with the plain edit by confidence."""
    mapped_mean, made_mean = _mean(mapped), _mean(made)
    variance = _mean(mapped**2) - mapped_mean**2
    covariance = _mean(mapped * made) - mapped_mean * made_mean
    gain = (covariance + GAIN_CAUTION) / (variance.clamp(min=0) + GAIN_CAUTION)
    gain, offset = _mean(gain), _mean(made_mean - gain * mapped_mean)
    explained = gain * mapped + offset
    offset = offset + _smooth(made - explained, RESIDUAL_SIGMA)
    confidence = _confidence(gain * mapped + offset, made)
    return LocalMap(confidence * gain, confidence * offset + (1 - confidence) * made)


def _confidence(explained: Tensor, made: Tensor) -> Tensor:
    """(1, h, w) in 0…1: whether the fine structure of ``explained`` is that of ``made``.

    Compared in a band that the model's autoencoder keeps; structure as weak as noise counts as agreement.
    """
    ours, theirs = (_smooth(part, 0.8) - _smooth(part, 3.0) for part in (explained, made))
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
    unexplained = _mean(error, ERROR_RADIUS) / (3 * noise)
    believable = 1 - _ramp(unexplained, *ERROR_RANGE)
    return _smooth(_ramp(reproduced, 0.45, 0.8) * _ramp(agreement, 0.3, 0.65) * believable, 2.0)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _mean(values: Tensor, radius: int = REGION_RADIUS) -> Tensor:
    """Mean over a square window, over what of it lies inside the picture."""
    size = 2 * radius + 1
    return F.avg_pool2d(values[None], size, stride=1, padding=radius, count_include_pad=False)[0]


def _smooth(values: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with the edge repeated."""
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = F.pad(values[:, None], (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(across, kernel.view(1, 1, -1, 1))[:, 0]


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


def _stretched(maps: Tensor, width: int, *, axis: int) -> Tensor:
    """Enlarge ``maps`` along ``axis`` to ``width``."""
    taps, weights = _taps(maps.shape[axis], width)
    parts = [maps.index_select(axis, taps[k]) * weights[k] for k in range(4)]
    return parts[0] + parts[1] + parts[2] + parts[3]
