"""How a source of any size meets the canvas, and how the result goes back (model.md 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from hidream_edit.domain.edit import Fit
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.convert import image_of


@dataclass(frozen=True, slots=True)
class Fitting:
    """Where the source lies on the canvas, in pixels."""

    canvas: tuple[int, int]  # width, height of what the model sees
    inner: tuple[int, int, int, int]  # left, top, right, bottom of the source in it; the rest is padding
    resample: Image.Resampling


def fitting_of(size: tuple[int, int], fit: Fit, *, working_size: int, multiple: int) -> Fitting:
    """``size`` is the source's width and height; ``multiple`` what both sides of the canvas must divide by."""
    width, height = size
    if fit is Fit.NATIVE:
        canvas = tuple(max(multiple, side // multiple * multiple) for side in size)
        return Fitting((canvas[0], canvas[1]), (0, 0, canvas[0], canvas[1]), Image.Resampling.LANCZOS)
    square = (working_size, working_size)
    if fit is Fit.SQUEEZE:
        return Fitting(square, (0, 0, *square), Image.Resampling.BICUBIC)
    scale = working_size / max(width, height)
    inner_width, inner_height = (max(1, min(working_size, round(side * scale))) for side in size)
    left, top = (working_size - inner_width) // 2, (working_size - inner_height) // 2
    return Fitting(square, (left, top, left + inner_width, top + inner_height), Image.Resampling.BICUBIC)


def onto_canvas(source: Picture, fitting: Fitting) -> Tensor:
    """(height, width, 3) uint8 as the model sees it; padding repeats the edge."""
    left, top, right, bottom = fitting.inner
    image = _resized(image_of(source, with_alpha=False), (right - left, bottom - top), fitting.resample)
    inner = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(bottom - top, right - left, 3)
    width, height = fitting.canvas
    rows = (torch.arange(height) - top).clamp(0, bottom - top - 1)
    columns = (torch.arange(width) - left).clamp(0, right - left - 1)
    return inner[rows][:, columns]


def off_canvas(canvas: Tensor, fitting: Fitting) -> Tensor:
    """The part of ``canvas`` (height, width, 3) that is not padding."""
    left, top, right, bottom = fitting.inner
    return canvas[top:bottom, left:right].contiguous()


def resized_picture(rgb: Tensor, size: tuple[int, int], alpha: bytes | None = None) -> Picture:
    """(height, width, 3) uint8 → a picture of ``size`` (width, height), resized with the bicubic filter of PIL."""
    image = Image.frombytes("RGB", (rgb.shape[1], rgb.shape[0]), rgb.contiguous().numpy().tobytes())
    return Picture(*size, _resized(image, size, Image.Resampling.BICUBIC).tobytes(), alpha)


def tensor_of(picture: Picture) -> Tensor:
    """(height, width, 3) uint8."""
    return torch.frombuffer(bytearray(picture.rgb), dtype=torch.uint8).view(picture.height, picture.width, 3)


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, resample)
