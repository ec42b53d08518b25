"""Source pictures: crops of the photographs that come with scikit-image, and pictures drawn from nothing.

`astronaut`, `chelsea` and `coffee` are kept out of training: the evaluation uses them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import skimage.data
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Pixels = NDArray[np.floating]  # (height, width, 3) in 0…1

PHOTO_SHARE = 0.6
HELD_OUT = ("astronaut.png", "chelsea.png", "coffee.png")
TRAINING_PHOTOS = (
    "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg",
    "camera.png", "brick.png", "grass.png", "gravel.png", "coins.png", "moon.png", "color.png", "page.png", "text.png",
    "logo.png",
)  # fmt: skip
# Colour photographs of things are rare among them, so they are drawn more often.
PHOTO_WEIGHTS = {"rocket.jpg": 5, "motorcycle_left.png": 7, "motorcycle_right.png": 7, "camera.png": 5, "color.png": 2}


@cache
def photo(name: str) -> Image.Image:
    """A photograph that ships with scikit-image, as RGB."""
    folder = Path(skimage.data.__file__).parent
    return Image.open(folder / name).convert("RGBA").convert("RGB")


def luma(pixels: Pixels) -> Pixels:
    """(height, width) brightness by the weights of BT.601."""
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)


def draw_source(rng: Generator, size: int) -> Pixels:
    """One source picture of ``size`` × ``size``."""
    pixels = photo_crop(rng, size) if rng.random() < PHOTO_SHARE else drawn(rng, size)
    return np.clip(pixels, 0, 1).astype(np.float32)


def photo_crop(rng: Generator, size: int) -> Pixels:
    """A crop of a training photograph at a random scale, its colours changed in many ways."""
    weights = np.array([PHOTO_WEIGHTS.get(name, 1) for name in TRAINING_PHOTOS], float)
    image = photo(TRAINING_PHOTOS[rng.choice(len(TRAINING_PHOTOS), p=weights / weights.sum())])
    shortest = min(image.size)
    side = int(shortest * rng.uniform(0.35, 1)) if shortest > 220 else shortest
    left, top = rng.integers(0, image.width - side + 1), rng.integers(0, image.height - side + 1)
    crop = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(crop, np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.15:
        pixels = np.rot90(pixels)
    return _recoloured(rng, pixels)


def _recoloured(rng: Generator, pixels: Pixels) -> Pixels:
    is_gray = float(np.abs(pixels[..., 0] - pixels[..., 2]).mean()) < 0.02
    if is_gray and rng.random() < 0.85:
        pixels = _colour_ramp(rng, luma(pixels))
    elif not is_gray:
        chance = rng.random()
        if chance < 0.25:
            pixels = pixels[..., rng.permutation(3)]
        elif chance < 0.4:
            # Skin, sand and wood are what people photograph; the training photographs have little of them.
            warm = np.array([1.0, rng.uniform(0.6, 0.85), rng.uniform(0.4, 0.7)], np.float32)
            pixels = 0.35 * pixels + 0.65 * luma(pixels)[..., None] ** rng.uniform(0.7, 1.1) * warm
    if rng.random() < 0.5:
        pixels = np.clip(pixels, 0, 1) ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.2:
        pixels = pixels * rng.uniform(0.75, 1.0, 3) + rng.uniform(0, 0.12, 3)
    return pixels.astype(np.float32)


def _colour_ramp(rng: Generator, level: Pixels) -> Pixels:
    """Dark, middle and light get colours of their own."""
    dark, middle, light = rng.random((3, 3)).astype(np.float32)
    dark, light = dark * 0.4, 1 - 0.5 * (1 - light)
    level = np.clip(level, 0, 1)[..., None]
    return np.where(level < 0.5, dark + (middle - dark) * level * 2, middle + (light - middle) * (level * 2 - 1))


def drawn(rng: Generator, size: int) -> Pixels:
    """Gradients, textures, cells, stripes, landscapes, shaded balls, each maybe with shapes and letters on top."""
    kinds = (_gradient, _cloud_texture, _cells, _stripes, _landscape, _landscape, _balls, _balls, _flat)
    pixels = kinds[rng.integers(len(kinds))](rng, size)
    if rng.random() < 0.4:
        pixels = _with_shapes(rng, np.clip(pixels, 0, 1))
    return pixels


def noise_field(rng: Generator, size: int, slope: float) -> Pixels:
    """Noise with a spectrum of 1/f^slope, mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    spectrum = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    field = np.fft.irfft2(spectrum * frequency**-slope, (size, size))
    field -= field.mean()
    return (field / (field.std() + 1e-6)).astype(np.float32)


def _grid(size: int) -> tuple[Pixels, Pixels]:
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return rows, columns


def _gradient(rng: Generator, size: int) -> Pixels:
    rows, columns = _grid(size)
    if rng.random() < 0.3:
        level = np.hypot(rows - rng.random(), columns - rng.random())
    else:
        angle = rng.uniform(0, 2 * np.pi)
        level = np.cos(angle) * columns + np.sin(angle) * rows
    level = (level - level.min()) / (np.ptp(level) + 1e-6)
    first, second = rng.random((2, 3))
    return (first + (second - first) * level[..., None]).astype(np.float32)


def _flat(rng: Generator, size: int) -> Pixels:
    return np.ones((size, size, 3), np.float32) * rng.random(3).astype(np.float32)


def _cloud_texture(rng: Generator, size: int) -> Pixels:
    level = 1 / (1 + np.exp(-noise_field(rng, size, rng.uniform(0.9, 2.2)) * rng.uniform(0.6, 2)))
    pixels = _colour_ramp(rng, level)
    return pixels + noise_field(rng, size, 1.2)[..., None] * rng.uniform(0, 0.08)


def _cells(rng: Generator, size: int) -> Pixels:
    count = int(rng.integers(8, 60))
    seeds = rng.integers(0, size, (count, 2))
    field = np.ones((size, size), bool)
    label = np.zeros((size, size), int)
    field[seeds[:, 0], seeds[:, 1]] = False
    label[seeds[:, 0], seeds[:, 1]] = np.arange(count)
    nearest = ndimage.distance_transform_edt(field, return_distances=False, return_indices=True)
    pixels = rng.random((count, 3)).astype(np.float32)[label[nearest[0], nearest[1]]]
    return pixels + noise_field(rng, size, 1.2)[..., None] * rng.uniform(0, 0.07)


def _stripes(rng: Generator, size: int) -> Pixels:
    rows, columns = _grid(size)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.04, 0.3)
    wave = np.sin((np.cos(angle) * columns + np.sin(angle) * rows) * 2 * np.pi / period)
    if rng.random() < 0.5:
        wave = np.sign(wave) * np.sign(np.sin((np.cos(angle) * rows - np.sin(angle) * columns) * 2 * np.pi / period))
    share = (wave[..., None] > 0).astype(np.float32)
    return _gradient(rng, size) * share + _gradient(rng, size) * (1 - share)


def _landscape(rng: Generator, size: int) -> Pixels:
    """A sky with a sun, and ridges in front of one another."""
    rows, columns = _grid(size)
    top, horizon = np.array([0.25, 0.45, 0.8]) * rng.uniform(0.6, 1.3, 3), rng.uniform(0.6, 1.0, 3)
    pixels = (top + (horizon - top) * rows[..., None]).astype(np.float32)
    sun = np.hypot(rows - rng.uniform(0.1, 0.4), columns - rng.random())
    pixels = pixels + np.exp(-((sun / rng.uniform(0.03, 0.12)) ** 2))[..., None] * rng.uniform(0, 0.8)
    pixels = pixels + np.clip(noise_field(rng, size, 1.8), 0, 2)[..., None] * rng.uniform(0, 0.15)
    base = rng.uniform(0.3, 0.6)
    for ridge in range(int(rng.integers(2, 5))):
        height = ndimage.gaussian_filter1d(rng.standard_normal(size), rng.uniform(0.01, 0.1) * size, mode="wrap")
        height = base + 0.14 * ridge + height / (height.std() + 1e-6) * rng.uniform(0.02, 0.08)
        below = (rows > height[None])[..., None]
        colour = np.array([rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.45)])
        texture = noise_field(rng, size, rng.uniform(0.8, 1.6))[..., None] * rng.uniform(0.02, 0.1)
        pixels = np.where(below, colour + texture, pixels)
    return pixels.astype(np.float32)


def _balls(rng: Generator, size: int) -> Pixels:
    """Shaded balls on a floor, lit from one side."""
    rows, columns = _grid(size)
    pixels = _gradient(rng, size) * 0.8 + 0.1
    light = rng.normal(size=3)
    light[2] = abs(light[2]) + 0.5
    light /= np.linalg.norm(light)
    for _ in range(int(rng.integers(1, 5))):
        radius, y, x = rng.uniform(0.08, 0.3), rng.random(), rng.random()
        v, u = (rows - y) / radius, (columns - x) / radius
        inside = u**2 + v**2 < 1
        depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
        shade = np.clip(u * light[0] + v * light[1] + depth * light[2], 0, 1)
        ball = rng.random(3) * (0.25 + 0.75 * shade[..., None]) + (shade[..., None] ** 20) * rng.uniform(0, 0.7)
        shadow = np.exp(-(((rows - y - radius) / (0.25 * radius)) ** 2) - ((columns - x) / radius) ** 2)
        pixels = pixels * (1 - 0.5 * shadow[..., None])
        pixels = np.where(inside[..., None], ball, pixels)
    return (pixels + noise_field(rng, size, 1.0)[..., None] * rng.uniform(0, 0.02)).astype(np.float32)


def _with_shapes(rng: Generator, pixels: Pixels) -> Pixels:
    size = pixels.shape[0]
    image = Image.fromarray((pixels * 255).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        x, y, reach = rng.integers(0, size), rng.integers(0, size), int(rng.uniform(0.04, 0.3) * size)
        kind = rng.random()
        if kind < 0.35:
            letters = "".join(
                rng.choice(list("abcdefghijkmnoprstuvwxyzABCDEFGHKLMNOPRST 0123456789"), rng.integers(2, 9))
            )
            font = ImageFont.load_default(size=int(rng.uniform(0.05, 0.25) * size))
            canvas.text((x - reach, y), letters, fill=colour, font=font)
        elif kind < 0.7:
            canvas.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
        else:
            canvas.polygon(
                [(x + int(rng.normal() * reach), y + int(rng.normal() * reach)) for _ in range(4)], fill=colour
            )
    return np.asarray(image, np.float32) / 255
