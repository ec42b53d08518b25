"""What each family of edits means: a function from the source to the true edit.

Every function is deterministic and made of smooth pieces, so that a small network can learn it, and works at any
size: lengths are fractions of the shorter side. Pixels are float32 (height, width, 3) in 0…1 in, unclipped out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from training.edits import Edit
from training.pictures import Pixels, luma

COLOUR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 35), "green": (45, 165, 65), "blue": (45, 85, 220), "yellow": (242, 215, 50),
    "purple": (140, 60, 185), "orange": (245, 140, 35), "pink": (250, 130, 180), "cyan": (45, 200, 215),
    "brown": (130, 82, 42), "magenta": (225, 45, 175), "gray": (128, 128, 128), "white": (250, 250, 250),
    "black": (14, 14, 14),
}  # fmt: skip

WORKING_SIDE = 256  # lengths below are given in pixels at this size


def colour(name: str | None) -> Pixels:
    """A named colour as (3,) in 0…1."""
    return np.array(COLOUR_VALUES[name or "gray"], np.float32) / 255


def strength(edit: Edit, slight: float, normal: float, much: float) -> float:
    """The number for the strength that the edit asks for."""
    return {"slight": slight, "normal": normal, "much": much}[edit.strength]


def scale_of(pixels: Pixels) -> float:
    """How many pixels one pixel of the working size is here."""
    return min(pixels.shape[:2]) / WORKING_SIDE


def blurred(pixels: Pixels, radius: float) -> Pixels:
    """Gaussian blur; ``radius`` in pixels at the working size."""
    sigma = radius * scale_of(pixels)
    axes = (sigma, sigma, 0) if pixels.ndim == 3 else (sigma, sigma)
    blurry: Pixels = ndimage.gaussian_filter(pixels, axes, mode="nearest", truncate=3)
    return blurry


def smoothed(pixels: Pixels, radius: float, contrast: float) -> Pixels:
    """Edge-preserving smoothing: the guided filter of the picture by its own brightness."""
    size = max(1, round(2 * radius * scale_of(pixels) + 1))

    def mean(values: Pixels) -> Pixels:
        box = (size, size, 1) if values.ndim == 3 else (size, size)
        averaged: Pixels = ndimage.uniform_filter(values, box, mode="nearest")
        return averaged

    guide = luma(pixels)[..., None]
    guide_mean, pixels_mean = mean(guide), mean(pixels)
    slope = (mean(guide * pixels) - guide_mean * pixels_mean) / (mean(guide**2) - guide_mean**2 + contrast**2)
    return mean(slope) * guide + mean(pixels_mean - slope * guide_mean)


def saturated(pixels: Pixels, factor: float) -> Pixels:
    gray = luma(pixels)[..., None]
    return gray + (pixels - gray) * factor


def towards(pixels: Pixels, target: Pixels | float, share: float | Pixels) -> Pixels:
    """Mix ``share`` of ``target`` in."""
    return pixels + (target - pixels) * share


def contrasted(pixels: Pixels, factor: float) -> Pixels:
    return (pixels - 0.5) * factor + 0.5


def stepped(pixels: Pixels, levels: int, share: float = 0.9) -> Pixels:
    """Mix ``share`` of a posterisation into ``levels`` steps in, its steps a little rounded."""
    scaled = np.clip(pixels, 0, 1) * (levels - 1)
    floor = np.minimum(np.floor(scaled), levels - 2)
    low, high = soft_step(np.float32(0), 0.5, 12), soft_step(np.float32(1), 0.5, 12)
    steps = floor + (soft_step(scaled - floor, 0.5, 12) - low) / (high - low)
    return towards(pixels, steps / (levels - 1), share)


def soft_step(values: Pixels | np.float32, centre: float, steepness: float) -> Pixels:
    return 1 / (1 + np.exp(-(values - centre) * steepness))


def gray_of(values: Pixels) -> Pixels:
    """(height, width) → three equal channels."""
    return np.repeat(values[..., None], 3, -1)


def slope_of(values: Pixels, radius: float) -> Pixels:
    """Length of the gradient of (height, width), per pixel of the working size, after a blur."""
    smooth = blurred(values, radius)
    rows, columns = np.gradient(smooth)
    return np.hypot(rows, columns) * scale_of(gray_of(values))


def places(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Row and column of each pixel's centre in 0…1."""
    height, width = pixels.shape[:2]
    rows = (np.arange(height, dtype=np.float32) + 0.5) / height
    columns = (np.arange(width, dtype=np.float32) + 0.5) / width
    return np.meshgrid(rows, columns, indexing="ij")  # type: ignore[return-value]


def _sketch_level(pixels: Pixels) -> Pixels:
    """Brightness over its surroundings: 1 on even ground, dark at lines."""
    level = luma(pixels)
    return np.clip((level + 0.06) / (blurred(level, 5) + 0.06), 0, 1)


def _sepia(pixels: Pixels) -> Pixels:
    return luma(pixels)[..., None] * np.array([1.06, 0.86, 0.64], np.float32) + 0.02


def _tint(pixels: Pixels, edit: Edit) -> Pixels:
    hue = colour(edit.colour)
    coloured = luma(pixels)[..., None] * (0.3 + 0.75 * hue) + 0.12 * hue
    return towards(pixels, coloured, strength(edit, 0.35, 0.65, 0.9))


def _duotone(pixels: Pixels) -> Pixels:
    dark, light = np.array([0.12, 0.08, 0.36], np.float32), np.array([1.0, 0.76, 0.42], np.float32)
    return dark + (light - dark) * luma(contrasted(pixels, 1.2))[..., None]


def _night(pixels: Pixels) -> Pixels:
    return saturated(pixels, 0.5) * np.array([0.24, 0.33, 0.60], np.float32) + np.array([0, 0.005, 0.03], np.float32)


def _sunset(pixels: Pixels) -> Pixels:
    rows, _ = places(pixels)
    warm = pixels * np.array([1.1, 0.78, 0.6], np.float32) + np.array([0.05, 0.0, 0.03], np.float32)
    return towards(warm, np.array([1.0, 0.5, 0.22], np.float32), 0.42 * (1 - rows)[..., None])


def _golden_hour(pixels: Pixels) -> Pixels:
    gold = np.array([1.0, 0.78, 0.4], np.float32)
    return towards(pixels * np.array([1.1, 0.97, 0.74], np.float32), gold, 0.25)


def _fog(pixels: Pixels, edit: Edit) -> Pixels:
    return towards(saturated(pixels, 0.75), np.array([0.84, 0.86, 0.88], np.float32), strength(edit, 0.35, 0.55, 0.75))


def _snow(pixels: Pixels) -> Pixels:
    white = towards(saturated(pixels, 0.3), np.array([0.93, 0.96, 1.0], np.float32), 0.38)
    return white + 0.45 * np.clip(luma(pixels) - 0.45, 0, 1)[..., None]


def _rain(pixels: Pixels) -> Pixels:
    length = max(1, round(13 * scale_of(pixels)))
    falling = ndimage.uniform_filter1d(pixels, length, axis=0, mode="nearest")
    wet = saturated(0.35 * pixels + 0.65 * falling, 0.5)
    return wet * np.array([0.6, 0.68, 0.78], np.float32) + np.array([0.04, 0.06, 0.09], np.float32)


def _underwater(pixels: Pixels) -> Pixels:
    return blurred(pixels, 0.8) * np.array([0.3, 0.78, 0.88], np.float32) + np.array([0, 0.12, 0.2], np.float32)


def _autumn(pixels: Pixels) -> Pixels:
    mixing = np.array([[0.72, 0.46, 0.0], [0.16, 0.6, 0.06], [0.08, 0.1, 0.46]], np.float32)
    return pixels @ mixing.T + np.array([0.04, 0.0, 0.0], np.float32)


def _vintage(pixels: Pixels) -> Pixels:
    faded = towards(pixels, _sepia(pixels), 0.55)
    return contrasted(faded, 0.72) * np.array([1.06, 1.0, 0.86], np.float32) + 0.05


def _night_vision(pixels: Pixels) -> Pixels:
    return luma(contrasted(pixels, 1.15))[..., None] * np.array([0.16, 0.98, 0.26], np.float32) + np.array(
        [0.0, 0.05, 0.01], np.float32
    )


def _neon(pixels: Pixels) -> Pixels:
    glow = np.clip(slope_of(luma(pixels), 1.2) * 9, 0, 1.3)[..., None]
    rows, columns = places(pixels)
    hue = np.stack((0.55 + 0.45 * columns, 0.25 + 0.5 * rows, 1.0 - 0.25 * columns), -1)
    return saturated(pixels, 1.3) * 0.22 + glow * hue + np.array([0.02, 0, 0.06], np.float32)


def _animated_3d(pixels: Pixels) -> Pixels:
    soft = smoothed(pixels, 4, 0.12)
    bright = towards(saturated(soft, 1.45), np.array([1.0, 0.93, 0.84], np.float32), 0.16)
    return contrasted(bright, 1.12) + 0.04


def _cartoon(pixels: Pixels) -> Pixels:
    flat = stepped(np.clip(saturated(smoothed(pixels, 3, 0.08), 1.5), 0, 1), 6, 0.6)
    line = np.clip(1.25 - slope_of(luma(pixels), 1.0) * 9, 0.05, 1)[..., None]
    return flat * line


def _ghibli(pixels: Pixels) -> Pixels:
    soft = saturated(smoothed(pixels, 3, 0.1), 1.25)
    gray = np.clip(luma(soft), 0, 1)[..., None]
    shadow, light = np.array([0.30, 0.46, 0.56], np.float32), np.array([1.0, 0.97, 0.82], np.float32)
    return towards(soft, shadow + (light - shadow) * gray, 0.42) + 0.05


def _comic(pixels: Pixels) -> Pixels:
    level = luma(pixels)
    rows, columns = (place * length for place, length in zip(places(pixels), pixels.shape[:2], strict=True))
    turn = 2 * np.pi / (8 * scale_of(pixels))
    dots = 0.5 + 0.25 * (np.cos(rows * turn) + np.cos(columns * turn))
    ink = soft_step(level + 0.35 * (1 - dots), 0.42, 9)
    line = np.clip(1.2 - slope_of(level, 0.9) * 9, 0, 1)
    flat = stepped(np.clip(saturated(contrasted(pixels, 1.3), 1.5), 0, 1), 5, 0.6)
    return towards(flat, np.array([1.0, 0.94, 0.72], np.float32), 0.15) * (0.35 + 0.65 * ink * line)[..., None]


def _oil(pixels: Pixels) -> Pixels:
    thick = smoothed(pixels, 6, 0.2)
    return contrasted(saturated(thick + 0.7 * (thick - blurred(thick, 3)), 1.3), 1.12)


def _watercolour(pixels: Pixels) -> Pixels:
    wash = smoothed(pixels, 6, 0.16)
    pooled = np.clip(slope_of(luma(wash), 1.5) * 4, 0, 0.35)[..., None]
    return towards(saturated(wash, 1.15), np.array([1.0, 0.985, 0.95], np.float32), 0.38) - pooled * 0.5


def _comic_free_sketch(pixels: Pixels) -> Pixels:
    return gray_of(_sketch_level(pixels) ** 1.4 * 0.97 + 0.02)


def _ink(pixels: Pixels) -> Pixels:
    lines = soft_step(_sketch_level(pixels), 0.86, 22)
    blacks = soft_step(blurred(luma(pixels), 2), 0.2, 16)
    return gray_of(lines * blacks) * np.array([0.97, 0.96, 0.92], np.float32) + 0.03


def _edges(pixels: Pixels) -> Pixels:
    return gray_of(np.clip(slope_of(luma(pixels), 1.0) * 8, 0, 1))


def _emboss(pixels: Pixels) -> Pixels:
    level = blurred(luma(pixels), 0.8)
    rows, columns = np.gradient(level)
    return gray_of(0.5 + 3.2 * scale_of(pixels) * (rows + columns) / np.sqrt(2))


def blocks(pixels: Pixels, side: float) -> Pixels:
    """Averages over squares whose side is given at the working size."""
    height, width = pixels.shape[:2]
    count = (max(1, round(width / (side * scale_of(pixels)))), max(1, round(height / (side * scale_of(pixels)))))
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
    coarse = image.resize(count, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(coarse, np.float32) / 255


def _pixel_art(pixels: Pixels) -> Pixels:
    return stepped(np.clip(saturated(blocks(pixels, 8), 1.3), 0, 1), 5, 0.5)


def _mosaic(pixels: Pixels) -> Pixels:
    tiles = saturated(blocks(pixels, 16), 1.15)
    rows, columns = (place * length for place, length in zip(places(pixels), pixels.shape[:2], strict=True))
    period = 16 * scale_of(pixels)
    edge = np.minimum(
        np.minimum(rows % period, period - rows % period), np.minimum(columns % period, period - columns % period)
    )
    grout = soft_step(edge, 1.0 * scale_of(pixels), 4 / scale_of(pixels))[..., None]
    return towards(np.full_like(tiles, 0.22), tiles, grout)


def _vignette(pixels: Pixels, edit: Edit) -> Pixels:
    rows, columns = places(pixels)
    radius = np.hypot(rows - 0.5, columns - 0.5) * 2
    return pixels * (1 - np.clip(radius - 0.4, 0, 1) * strength(edit, 0.6, 0.95, 1.2))[..., None]


def _frame(pixels: Pixels, edit: Edit) -> Pixels:
    framed = pixels.copy()
    width = max(1, round(16 * scale_of(pixels)))
    for side in (framed[:width], framed[-width:], framed[:, :width], framed[:, -width:]):
        side[:] = colour(edit.colour)
    return framed


@cache
def _grain_tile() -> Pixels:
    """64×64 of grain, tiled over the picture, so that it is the same in every run."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 64)), 0.8, mode="wrap")
    return (noise / noise.std()).astype(np.float32)


def _film_grain(pixels: Pixels, edit: Edit) -> Pixels:
    tile = _grain_tile()
    side = max(1, round(64 * scale_of(pixels)))
    grown = np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC))
    height, width = pixels.shape[:2]
    grain = np.tile(grown, (height // side + 1, width // side + 1))[:height, :width]
    return saturated(contrasted(pixels, 1.06), 0.75) + grain[..., None] * strength(edit, 0.06, 0.1, 0.16)


def _sharpened(pixels: Pixels, edit: Edit) -> Pixels:
    return pixels + (pixels - blurred(pixels, 1.6)) * strength(edit, 0.9, 1.7, 2.8)


Truth = Callable[[Pixels, Edit], Pixels]


def _plain(function: Callable[[Pixels], Pixels]) -> Truth:
    return lambda pixels, _: function(pixels)


TRUTHS: dict[str, Truth] = {
    "grayscale": _plain(lambda pixels: gray_of(luma(pixels))),
    "sepia": _plain(_sepia),
    "invert": _plain(lambda pixels: 1 - pixels),
    "brighten": lambda pixels, edit: towards(pixels, 1.0, strength(edit, 0.2, 0.36, 0.55)),
    "darken": lambda pixels, edit: pixels * strength(edit, 0.74, 0.52, 0.34),
    "contrast": lambda pixels, edit: contrasted(pixels, strength(edit, 1.3, 1.65, 2.2)),
    "low_contrast": lambda pixels, edit: contrasted(pixels, strength(edit, 0.7, 0.48, 0.3)),
    "saturate": lambda pixels, edit: saturated(pixels, strength(edit, 1.45, 2.0, 2.8)),
    "mute": lambda pixels, edit: saturated(pixels, strength(edit, 0.65, 0.38, 0.2)),
    "warm": lambda pixels, edit: (
        pixels * np.array([1 + (k := strength(edit, 0.08, 0.15, 0.24)), 1.0, 1 - 2 * k], np.float32)
    ),
    "cool": lambda pixels, edit: (
        pixels * np.array([1 - 2 * (k := strength(edit, 0.08, 0.15, 0.24)), 1.0, 1 + k], np.float32)
    ),
    "tint": _tint,
    "threshold": _plain(lambda pixels: gray_of(soft_step(luma(pixels), 0.48, 15))),
    "solarize": _plain(lambda pixels: np.sin(np.pi * np.clip(pixels, 0, 1)) ** 2),
    "duotone": _plain(_duotone),
    "night": _plain(_night),
    "sunset": _plain(_sunset),
    "fog": _fog,
    "snow": _plain(_snow),
    "rain": _plain(_rain),
    "underwater": _plain(_underwater),
    "autumn": _plain(_autumn),
    "golden_hour": _plain(_golden_hour),
    "vintage": _plain(_vintage),
    "night_vision": _plain(_night_vision),
    "neon": _plain(_neon),
    "animated_3d": _plain(_animated_3d),
    "cartoon": _plain(_cartoon),
    "ghibli": _plain(_ghibli),
    "comic": _plain(_comic),
    "oil": _plain(_oil),
    "watercolour": _plain(_watercolour),
    "pencil_sketch": _plain(_comic_free_sketch),
    "ink": _plain(_ink),
    "edges": _plain(_edges),
    "posterize": _plain(lambda pixels: stepped(pixels, 4, 0.95)),
    "pixel_art": _plain(_pixel_art),
    "emboss": _plain(_emboss),
    "mosaic": _plain(_mosaic),
    "blur": lambda pixels, edit: blurred(pixels, strength(edit, 1.6, 3.0, 6.0)),
    "sharpen": _sharpened,
    "vignette": _vignette,
    "frame": _frame,
    "film_grain": _film_grain,
    "mirror": _plain(lambda pixels: pixels[:, ::-1].copy()),
    "upside_down": _plain(lambda pixels: pixels[::-1].copy()),
}


def apply(edits: tuple[Edit, ...], source: Pixels) -> Pixels:
    """The true edit of ``source``; several are made one after the other."""
    pixels = source
    for edit in edits:
        pixels = np.clip(TRUTHS[edit.family](pixels, edit), 0, 1).astype(np.float32)
    return pixels
