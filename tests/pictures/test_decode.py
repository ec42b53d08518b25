"""Whatever people call a picture becomes upright sRGB, or an error that says why not."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from hidream_edit.domain.errors import PictureTooLarge, PictureUnreadable, PictureUnsupported
from hidream_edit.pictures.convert import image_of
from hidream_edit.pictures.decode import DecodeLimits, decode

TWO_BY_ONE = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))  # red, blue

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))  # `make fuzz` takes many more


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def first_pixel(data: bytes) -> tuple[int, ...]:
    return tuple(decode(data).rgb[:3])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_each_common_format_is_taken(kind: str) -> None:
    picture = decode(file_of(Image.new("RGB", (24, 16), (200, 100, 50)), kind))
    assert picture.size == (24, 16)
    assert np.abs(np.frombuffer(picture.rgb[:3], np.uint8).astype(int) - (200, 100, 50)).max() < 12


@pytest.mark.parametrize(
    ("orientation", "size", "red_first"),
    [(1, (2, 1), True), (2, (2, 1), False), (3, (2, 1), False), (6, (1, 2), True), (8, (1, 2), False)],
)
def test_the_orientation_mark_is_obeyed(orientation: int, size: tuple[int, int], red_first: bool) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = file_of(TWO_BY_ONE, "PNG", exif=exif)
    assert decode(data).size == size
    assert (first_pixel(data) == (255, 0, 0)) is red_first


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_keeps_black_black_and_white_white(mode: str) -> None:
    both = Image.fromarray(np.array([[0, 255]], np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.array([[0, 65535]], np.uint16))
    elif mode == "F":
        image = Image.fromarray(np.array([[0.0, 1.0]], np.float32))
    else:
        image = both.convert("RGB").convert(mode)
    rgb = decode(file_of(image, "TIFF")).rgb
    assert max(rgb[:3]) <= 2
    assert min(rgb[3:]) >= 253


def test_transparency_is_kept_and_shown_on_white() -> None:
    picture = decode(file_of(Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8))))
    assert picture.rgb == bytes((255, 255, 255, 9, 9, 9))
    assert picture.alpha == bytes((0, 255))


def test_a_palette_with_one_transparent_colour_has_alpha() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 210, 220])
    image.putpixel((1, 0), 1)
    assert decode(file_of(image, "PNG", transparency=0)).alpha == bytes((0, 255))


def test_full_opacity_is_no_transparency() -> None:
    assert decode(file_of(Image.new("RGBA", (2, 2), (1, 2, 3, 255)))).alpha is None


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert first_pixel(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (
        254,
        0,
        0,
    ) or first_pixel(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_an_embedded_colour_profile_is_converted() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    image = ImageCms.profileToProfile(
        Image.new("RGB", (2, 2), (200, 30, 30)), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    rgb = decode(file_of(image, "TIFF", icc_profile=lab.tobytes())).rgb
    assert np.abs(np.frombuffer(rgb[:3], np.uint8).astype(int) - (200, 30, 30)).max() < 6


def test_a_damaged_colour_profile_does_not_cost_the_picture() -> None:
    assert first_pixel(file_of(Image.new("RGB", (1, 1), (5, 6, 7)), icc_profile=b"no profile at all")) == (5, 6, 7)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"<svg xmlns='x'/>", "an SVG drawing"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04....", "a ZIP archive"),
    ],
)
def test_a_document_that_people_take_for_a_picture_is_called_by_its_name(data: bytes, words: str) -> None:
    with pytest.raises(PictureUnsupported, match=words) as caught:
        decode(data)
    assert "JPEG" in caught.value.context["supported_formats"]  # type: ignore[operator]


@pytest.mark.parametrize("data", [b"", b"\0" * 50, b"hello"])
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(PictureUnreadable):
        decode(data)


def test_a_picture_cut_short_is_refused() -> None:
    whole = file_of(Image.effect_noise((64, 64), 50), "PNG")
    with pytest.raises(PictureUnreadable, match="cannot be decoded"):
        decode(whole[: len(whole) // 2])


def test_limits_hold_before_pixels_are_made() -> None:
    data = file_of(Image.new("L", (500, 400)))
    with pytest.raises(PictureTooLarge, match="500x400") as caught:
        decode(data, limits=DecodeLimits(pixels_max=100_000))
    assert caught.value.kind == "image_too_large"
    with pytest.raises(PictureTooLarge, match="bytes") as caught:
        decode(data, limits=DecodeLimits(bytes_max=10))
    assert caught.value.kind == "file_too_large"


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_shapes_are_pictures_too(size: tuple[int, int]) -> None:
    assert decode(file_of(Image.new("RGB", size, (1, 2, 3)))).size == size


@settings(max_examples=FUZZ_EXAMPLES, deadline=None, print_blob=True)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"]), st.data())
def test_damage_anywhere_gives_a_picture_or_the_documented_error(kind: str, data: st.DataObject) -> None:
    whole = bytearray(file_of(Image.linear_gradient("L").resize((32, 24)).convert("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(whole), limits=DecodeLimits(pixels_max=10_000_000))
    except PictureUnreadable:
        return
    assert image_of(picture).size == picture.size
