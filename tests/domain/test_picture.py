"""Pixels as a value."""

from __future__ import annotations

import pytest

from hidream_edit.domain.picture import Picture


def test_bytes_that_do_not_fill_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="11 bytes are not 2x2"):
        Picture(2, 2, bytes(11))
    with pytest.raises(ValueError, match="alpha"):
        Picture(2, 2, bytes(12), bytes(3))


def test_a_picture_has_at_least_one_pixel() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        Picture(0, 5, b"")


def test_its_pixels_stay_out_of_messages() -> None:
    assert repr(Picture(1, 1, b"abc")) == "Picture(width=1, height=1)"
