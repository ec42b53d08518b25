"""Pictures → files that say what made them, and nothing about where the source was taken."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Literal

from PIL import ExifTags, Image, PngImagePlugin

from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.convert import image_of

OutputFormat = Literal["jpeg", "png"]
JPEG_QUALITY, PNG_COMPRESSION = 95, 1  # as the hosted service encodes (api.md 10.2)
ABOUT = "hidream-edit"  # the text chunk that holds the facts
USER_COMMENT_PREFIX = b"ASCII\0\0\0"


def encode(picture: Picture, output_format: OutputFormat, *, about: Mapping[str, object] | None = None) -> bytes:
    """``picture`` as a file. ``about`` is written into it as JSON, readable by `read_about`.

    PNG keeps the transparency of the source; JPEG cannot and shows it on white.
    """
    text = json.dumps(dict(about), ensure_ascii=True, sort_keys=True) if about else None
    buffer = io.BytesIO()
    if output_format == "png":
        chunks = PngImagePlugin.PngInfo()
        if text:
            chunks.add_text("Software", ABOUT)
            chunks.add_text(ABOUT, text)
        image_of(picture).save(buffer, "PNG", compress_level=PNG_COMPRESSION, pnginfo=chunks)
    else:
        exif = Image.Exif()
        if text:
            exif[ExifTags.Base.Software] = ABOUT
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = USER_COMMENT_PREFIX + text.encode("ascii")
        image_of(picture, with_alpha=False).save(buffer, "JPEG", quality=JPEG_QUALITY, exif=exif)
    return buffer.getvalue()


def read_about(data: bytes) -> dict[str, object]:
    """What `encode` wrote about a file; empty where there is nothing of ours."""
    with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
        text = image.info.get(ABOUT)
        if text is None:
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
            if isinstance(comment, bytes) and comment.startswith(USER_COMMENT_PREFIX):
                text = comment.removeprefix(USER_COMMENT_PREFIX).decode("ascii", "replace")
    if not isinstance(text, str):
        return {}
    try:
        about = json.loads(text)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
