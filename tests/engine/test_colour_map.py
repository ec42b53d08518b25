"""What an edit does to colours: fitted, and looked up for bytes."""

from __future__ import annotations

import itertools

import pytest
import torch

from hidream_edit.engine.colour_map import TABLE_SIDE, ColourMap, ColourMapOfBytes, fit_colours


def random_map() -> ColourMap:
    return ColourMap(torch.rand(3, TABLE_SIDE, TABLE_SIDE, TABLE_SIDE, generator=torch.Generator().manual_seed(0)))


def test_the_table_for_bytes_says_what_the_map_says() -> None:
    pixels = torch.randint(0, 256, (20_000, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    extremes = torch.tensor(list(itertools.product((0, 1, 84, 85, 86, 170, 254, 255), repeat=3)), dtype=torch.uint8)
    pixels = torch.cat((pixels, extremes))
    colours = random_map()
    torch.testing.assert_close(ColourMapOfBytes(colours)(pixels), colours(pixels / 255), rtol=0, atol=1e-5)


def test_a_node_is_where_its_colour_is() -> None:
    colours = random_map()
    red, green, blue = 3, 7, 11
    found = colours(torch.tensor([red, green, blue]) / (TABLE_SIDE - 1))
    torch.testing.assert_close(found, colours.nodes[:, blue, green, red], rtol=0, atol=1e-5)


@pytest.mark.parametrize("of_bytes", [False, True])
def test_an_edit_that_is_affine_in_colour_is_found(of_bytes: bool) -> None:
    seen = torch.rand(3, 90, 120, generator=torch.Generator().manual_seed(2))
    mixed = torch.tensor([[0.6, 0.2, 0.1], [0.1, 0.7, 0.1], [0.0, 0.3, 0.5]])
    colours = fit_colours(seen, torch.einsum("oc,chw->ohw", mixed, seen) + 0.05)
    pixels = torch.randint(0, 256, (999, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    found = ColourMapOfBytes(colours)(pixels) if of_bytes else colours(pixels / 255)
    torch.testing.assert_close(found, pixels / 255 @ mixed.T + 0.05, rtol=0, atol=0.005)


def test_a_picture_of_one_colour_has_a_map_too() -> None:
    gray = torch.full((3, 40, 40), 0.5)
    found = fit_colours(gray, gray * 0.5)(torch.tensor([0.5, 0.5, 0.5]))
    torch.testing.assert_close(found, torch.full((3,), 0.25), rtol=0, atol=0.01)
