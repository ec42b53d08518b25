"""Pictures of strangers are decoded in a child that may die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from PIL import Image
from tests.pictures.corpus import file_of, harmful

from hidream_edit.domain.errors import PictureTooLarge, PictureUnreadable
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.decode import DecodeLimits, decode
from hidream_edit.pictures.encode import encode
from hidream_edit.pictures.isolated import ChildLimits, IsolatedPictures

CORPUS = dict(harmful())
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def pictures() -> Iterator[IsolatedPictures]:
    made = IsolatedPictures(ChildLimits(seconds_max=20))
    yield made
    made.close()


def a_file(size: tuple[int, int] = (40, 30)) -> bytes:
    return file_of(Image.effect_noise(size, 80).convert("RGB"), "PNG")


def test_a_child_decodes_as_this_process_would(pictures: IsolatedPictures) -> None:
    data = a_file()
    assert pictures.decode(data) == decode(data)


def test_a_refusal_comes_with_its_kind_and_limits(pictures: IsolatedPictures) -> None:
    with pytest.raises(PictureTooLarge) as large:
        pictures.decode(CORPUS["png of 50,000 x 50,000"])
    assert large.value.kind == "image_too_large"
    assert large.value.context["max_pixels"] == DecodeLimits().pixels_max
    with pytest.raises(PictureUnreadable) as unsupported:
        pictures.decode(CORPUS["svg"])
    assert unsupported.value.kind == "unsupported_image_format"
    assert unsupported.value.field == "image_url"


@pytest.mark.parametrize("name", CORPUS)
def test_a_harmful_file_gives_a_picture_or_the_documented_error(name: str, pictures: IsolatedPictures) -> None:
    began, kind, picture = time.monotonic(), None, None
    try:
        picture = pictures.decode(CORPUS[name])
    except PictureUnreadable as refused:
        kind = refused.kind
    assert time.monotonic() - began < 20
    if picture is None:
        assert kind in {"image_load_error", "image_too_large", "file_too_large", "unsupported_image_format"}
    else:
        assert len(picture.rgb) == picture.width * picture.height * 3


def test_the_whole_corpus_leaves_this_process_as_small_as_it_was(pictures: IsolatedPictures) -> None:
    process, kept = psutil.Process(), 0
    pictures.decode(a_file())
    before = process.memory_info().rss
    for name, data in CORPUS.items():
        if "9,999" in name:
            continue  # a whole picture of 300 MB, which this process may hold while it looks at it
        try:
            kept += pictures.decode(data).width
        except PictureUnreadable:
            continue
    assert kept > 0
    assert process.memory_info().rss - before < 50 * MEBIBYTE


def test_a_child_that_needs_too_much_memory_is_refused_and_the_next_picture_is_fine() -> None:
    small = IsolatedPictures(ChildLimits(memory_bytes_max=700 * MEBIBYTE))
    try:
        with pytest.raises(PictureTooLarge):
            small.decode(CORPUS["png of 9,999 x 9,999 that is all there"])
        assert small.decode(a_file()).size == (40, 30)
    finally:
        small.close()


def test_a_child_that_takes_too_long_is_killed_and_replaced() -> None:
    hasty = IsolatedPictures(ChildLimits(seconds_max=0.05))
    try:
        with pytest.raises(PictureUnreadable, match="too long"):
            hasty.decode(CORPUS["png of 9,999 x 9,999 that is all there"])
    finally:
        hasty.close()


def kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)


def test_a_child_that_is_killed_at_its_work_costs_that_picture_only() -> None:
    own = IsolatedPictures()
    try:
        own.decode(a_file())
        killer = threading.Timer(0.1, kill_children)
        killer.start()
        large = CORPUS["png of 9,999 x 9,999 that is all there"]
        with pytest.raises(PictureTooLarge):
            any(own.decode(large) is None for _ in range(50))  # until one is hit
        killer.join()
        assert own.decode(a_file()).size == (40, 30)
    finally:
        own.close()


def test_children_that_are_killed_while_they_wait_cost_nothing() -> None:
    own = IsolatedPictures()
    try:
        for _ in range(3):
            assert own.decode(a_file()).size == (40, 30)
            kill_children()
            time.sleep(0.3)
    finally:
        own.close()


def test_a_result_says_nothing_of_where_its_source_was_taken() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    source = decode(file_of(Image.new("RGB", (8, 8)), "JPEG", exif=exif, comment=b"home", icc_profile=b"x" * 50))
    for output_format in ("png", "jpeg"):
        data = encode(Picture(*source.size, source.rgb), output_format, about=None)  # type: ignore[arg-type]
        for word in (b"a camera", b"home", b"GPS", b"Exif\0\0II*\0\x08\0\0\0\x01"):
            assert word not in data
