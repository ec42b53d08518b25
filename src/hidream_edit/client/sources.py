"""Whatever a program calls a picture → an address that passes, or bytes to upload."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import mimetypes
import os
import urllib.parse
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from hidream_edit.client.errors import InputRefused

PictureLike = str | os.PathLike[str] | bytes | Image.Image
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Source:
    """``url`` for what lies on the web already, otherwise ``data``; ``image`` where it can be shown."""

    url: str | None = None
    data: bytes = field(default=b"", repr=False)
    content_type: str = DEFAULT_TYPE
    name: str = "picture"
    image: Image.Image | None = field(default=None, repr=False)


def source_of(picture: PictureLike) -> Source:
    """A path, bytes, a PIL image, a web address or a data URI, ready to be sent.

    Raises:
        InputRefused: the file cannot be read, or the data URI is malformed.
        TypeError: something else.
    """
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        return Source(data=_png(upright), content_type="image/png", name="picture.png", image=upright)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(picture), "picture")
    if isinstance(picture, str) and picture.lower().startswith(("http://", "https://")):
        return Source(url=picture)
    if isinstance(picture, str) and picture[:5].lower() == "data:":
        return _of_bytes(data_of(picture), "picture")
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise _refused(f"cannot read {str(path)[:200]}: {reason}") from problem
        return _of_bytes(data, path.name)
    raise TypeError(f"a picture is a path, bytes, a PIL image or an address, not {type(picture).__name__}")


def data_of(uri: str) -> bytes:
    """The bytes of a data URI.

    Raises:
        InputRefused: malformed.
    """
    head, comma, body = uri.partition(",")
    if not comma:
        raise _refused("the data URI has no comma before its data")
    if not head.lower().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(body)
    try:
        return base64.b64decode("".join(urllib.parse.unquote(body).split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise _refused("the data URI is not valid base64") from problem


def opened(data: bytes) -> Image.Image:
    """The picture in a file, upright.

    Raises:
        ValueError: it cannot be decoded here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about size and damage; what matters raises
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
            upright: Image.Image = ImageOps.exif_transpose(image)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as damage:
            raise ValueError("the file is not a picture that can be decoded here") from damage
    return upright


def _of_bytes(data: bytes, name: str) -> Source:
    if not data:
        raise _refused(f"{name} is empty")
    content_type = mimetypes.guess_type(name)[0] or DEFAULT_TYPE
    image = None
    with contextlib.suppress(ValueError):  # the server knows more formats, and says so where it does not
        image = opened(data)
        with contextlib.suppress(OSError):
            content_type = Image.open(io.BytesIO(data)).get_format_mimetype() or content_type
    return Source(data=data, content_type=content_type, name=name, image=image)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _refused(message: str) -> InputRefused:
    return InputRefused(message, field="image_url", kind="image_load_error")
