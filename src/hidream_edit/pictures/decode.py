"""Bytes of any picture file → plain sRGB pixels, within limits that are checked before pixels are made."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from hidream_edit.domain.errors import PictureTooLarge, PictureUnreadable, PictureUnsupported
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.convert import WHITE

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
HEIC = "HEIF"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a file may cost."""

    bytes_max: int = 50 * 2**20
    pixels_max: int = 100_000_000
    side_max: int = 32_768


DEFAULT_LIMITS = DecodeLimits()

# Documents that people take for pictures, by how they begin; naming them beats "cannot be decoded".
LOOK_ALIKES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG document"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x1aE\xdf\xa3", "a video"),
)


def supported_formats() -> tuple[str, ...]:
    """Names of the formats that are taken here; HEIC only where its decoder is installed."""
    return (*FORMATS, HEIC) if _has_heic() else FORMATS


def decode(data: bytes, *, limits: DecodeLimits = DEFAULT_LIMITS) -> Picture:
    """The first frame of ``data``, upright, in sRGB.

    Orientation marks are obeyed, embedded colour profiles are converted, 16-bit and floating-point values are scaled.
    Where the file is transparent, ``alpha`` keeps that, and ``rgb`` shows the picture on white, as most viewers do.

    Raises:
        PictureTooLarge: over a limit.
        PictureUnsupported: a format that is not taken.
        PictureUnreadable: damaged, cut short, or not a picture.
    """
    if len(data) > limits.bytes_max:
        raise PictureTooLarge(
            f"the file has {len(data):,} bytes, {limits.bytes_max:,} are allowed",
            kind="file_too_large",
            context={"max_size": limits.bytes_max},
        )
    if not data:
        raise PictureUnreadable("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns about damage that either raises below or does not matter
        try:
            return _decode(data, limits)
        except PictureUnreadable:
            raise
        except Image.DecompressionBombError as bomb:
            raise _too_many_pixels(None, limits) from bomb
        except UnidentifiedImageError as unknown:
            raise _unknown_format(data) from unknown
        except MemoryError as full:
            raise PictureTooLarge(
                "the picture does not fit into memory", context={"max_pixels": limits.pixels_max}
            ) from full
        # The decoders of the library raise whatever their parsers meet; all of it means the file is damaged.
        except Exception as damage:
            raise PictureUnreadable(f"the picture cannot be decoded: {_short(damage)}") from damage


def _decode(data: bytes, limits: DecodeLimits) -> Picture:
    formats = list(supported_formats())
    with Image.open(io.BytesIO(data), formats=formats) as image:
        if image.width * image.height > limits.pixels_max or max(image.size) > limits.side_max:
            raise _too_many_pixels(image.size, limits)
        image.seek(0)
        image.load()
        upright = ImageOps.exif_transpose(image) or image
        profile = image.info.get("icc_profile")
        colour, alpha = _split_alpha(upright)
    rgb = _to_srgb(colour, profile)
    if alpha is not None:
        if alpha.getextrema() == (255, 255):
            return Picture(*rgb.size, rgb.tobytes())
        ground = Image.new("RGB", rgb.size, WHITE)
        ground.paste(rgb, mask=alpha)
        return Picture(*rgb.size, ground.tobytes(), alpha.tobytes())
    return Picture(*rgb.size, rgb.tobytes())


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture without its transparency, and that as 8-bit gray."""
    if image.mode in ("P", "RGB", "L", "1", "I") and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "La", "RGBa", "PA"):
        whole = image.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    return image, None


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    image = _to_eight_bits(image)
    if profile:
        # A profile that cannot be read or that belongs to another mode is no reason to refuse the picture.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Palette → RGB; 16-bit, 32-bit and floating-point gray → 8 bits by their own range."""
    if image.mode in ("P", "1"):
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray(_rounded(np.asarray(image).astype(np.float64) / 257))
    if image.mode == "I":
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray(_rounded(values / 257 if values.max(initial=0) > 255 else values))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=1e9, neginf=0)
        return Image.fromarray(_rounded(values * 255 if values.max(initial=0) <= 1 else values))
    return image


def _rounded(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _too_many_pixels(size: tuple[int, int] | None, limits: DecodeLimits) -> PictureTooLarge:
    what = f"{size[0]}x{size[1]} pixels are" if size else "the picture is"
    return PictureTooLarge(
        f"{what} more than the {limits.pixels_max:,} allowed, or longer than {limits.side_max:,} on a side",
        context={"max_width": limits.side_max, "max_height": limits.side_max, "max_pixels": limits.pixels_max},
    )


def _unknown_format(data: bytes) -> PictureUnreadable:
    formats = supported_formats()
    start = data[:256].lstrip().lower()
    for mark, name in LOOK_ALIKES:
        if start.startswith(mark.lower()):
            return PictureUnsupported(f"this is {name}; pictures are taken as {', '.join(formats)}", supported=formats)
    return PictureUnreadable(f"this is not a picture in a known format; {', '.join(formats)} are taken")


@cache
def _has_heic() -> bool:
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _short(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0][:120]
