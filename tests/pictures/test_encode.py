"""Results as files that tell how they were made, and nothing about the source."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.compare import side_by_side
from hidream_edit.pictures.convert import image_of, picture_of
from hidream_edit.pictures.decode import decode
from hidream_edit.pictures.encode import OutputFormat, encode, read_about

PICTURE = Picture(4, 2, bytes(range(24)), bytes((0, 50, 100, 150, 200, 250, 255, 255)))
ABOUT = {"seed": 2**64 - 1, "settings": {"edit_instruction": "mach es zur Nacht – ☾"}}


def test_png_gives_the_same_pixels_back() -> None:
    opaque = Picture(4, 2, PICTURE.rgb)
    assert decode(encode(opaque, "png")) == opaque


def test_png_keeps_the_transparency_and_jpeg_has_none() -> None:
    assert decode(encode(PICTURE, "png")).alpha == PICTURE.alpha
    assert Image.open(io.BytesIO(encode(PICTURE, "jpeg"))).mode == "RGB"


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_what_made_a_file_can_be_read_from_it(kind: OutputFormat) -> None:
    assert read_about(encode(PICTURE, kind, about=ABOUT)) == ABOUT


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_file_without_facts_tells_none(kind: OutputFormat) -> None:
    assert read_about(encode(PICTURE, kind)) == {}


def test_facts_of_somebody_else_are_not_ours() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0[1, 2]"
    Image.new("RGB", (1, 1)).save(buffer, "JPEG", exif=exif)
    assert read_about(buffer.getvalue()) == {}


def test_equal_pictures_give_equal_files() -> None:
    assert encode(PICTURE, "jpeg", about=ABOUT) == encode(PICTURE, "jpeg", about=dict(reversed(ABOUT.items())))


def test_a_pil_image_becomes_a_picture_and_back() -> None:
    shown = picture_of(image_of(PICTURE))
    assert shown.alpha == PICTURE.alpha
    assert shown.rgb[:3] == b"\xff\xff\xff"  # transparent: white


def test_side_by_side_puts_pictures_of_any_size_in_one_row() -> None:
    sheet = side_by_side([Picture(300, 200, bytes(180000)), Picture(50, 100, b"\xff" * 15000)], ["before", "after"])
    pixels = np.frombuffer(sheet.rgb, np.uint8).reshape(sheet.height, sheet.width, 3)
    dark = (pixels == 0).all(-1)
    assert dark.sum() >= 300 * 200
    assert sheet.width > 300 + 100
    with pytest.raises(ValueError, match="1 captions"):
        side_by_side([PICTURE, PICTURE], ["one"])
