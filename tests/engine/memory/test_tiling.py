"""An autoencoder in tiles: exact where nothing reaches over a border, near where something does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.engine.conftest import short_edit
from torch import Tensor

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.latents import Autoencoder, pixels_of
from hidream_edit.engine.memory.plan import Arrangement, Place
from hidream_edit.engine.memory.tiling import faded, in_tiles, starts

PHOTO = Path(__file__).parents[3] / "examples" / "photo.jpg"


def doubled(piece: Tensor) -> Tensor:
    return piece.repeat_interleave(2, -1).repeat_interleave(2, -2)


def halved(piece: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(piece, 2)


@pytest.mark.parametrize("shape", [(20, 20), (9, 31), (16, 8), (33, 17)])
def test_what_works_on_each_pixel_alone_comes_out_the_same(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    whole = torch.randn(1, 3, *shape)
    tiled = in_tiles(doubled, whole, tile=8, overlap=2, scale=(2, 1))
    assert torch.allclose(tiled, doubled(whole), atol=1e-6)


def test_tiles_of_pixels_begin_at_whole_latents() -> None:
    torch.manual_seed(0)
    whole = torch.randn(1, 3, 44, 38)
    assert torch.allclose(in_tiles(halved, whole, tile=16, overlap=4, scale=(1, 2)), halved(whole), atol=1e-6)


def test_what_fits_into_a_tile_is_not_touched() -> None:
    whole, pieces = torch.randn(1, 3, 8, 8), []
    result = in_tiles(lambda piece: (pieces.append(piece), doubled(piece))[1], whole, tile=8, overlap=2, scale=(2, 1))
    assert pieces[0] is whole
    assert torch.equal(result, doubled(whole))


@pytest.mark.parametrize(("length", "tile", "overlap"), [(96, 48, 12), (8, 8, 2), (9, 8, 2), (100, 16, 4)])
def test_tiles_cover_everything_and_overlap(length: int, tile: int, overlap: int) -> None:
    begins = starts(length, tile, overlap)
    assert begins[0] == 0
    assert begins[-1] + tile >= length
    assert all(after - before <= tile - overlap for before, after in pairwise(begins))


def test_a_tile_counts_less_towards_its_ends_and_never_nothing() -> None:
    weights = faded(10, 3, torch.device("cpu"))
    assert weights.tolist() == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def psnr(ours: Tensor, theirs: Tensor) -> float:
    """Of pictures between −1 and 1."""
    return float(10 * torch.log10(4 / (ours - theirs).square().mean()))


def photo(side: int) -> Picture:
    with Image.open(PHOTO) as image:
        image = image.convert("RGB").resize((side, side))
    return Picture(side, side, image.tobytes())


@pytest.fixture(scope="module")
def mini() -> Engine:
    return Engine.load(None, device="cpu", dtype="float32")


def test_the_mini_models_autoencoder_in_tiles_is_as_good_as_whole(mini: Engine) -> None:
    whole = mini._loaded.autoencoder
    tiled = Autoencoder.of(whole.model, tile=16)
    from hidream_edit.engine.fitting import tensor_of

    pixels = pixels_of(tensor_of(photo(256)), torch.float32)
    with torch.inference_mode():
        latents, pieces = whole.encode(pixels), tiled.encode(pixels)
        assert psnr(tiled.decode(latents), whole.decode(latents)) > 45
        assert psnr(whole.decode(pieces), whole.decode(latents)) > 45
        assert not torch.equal(tiled.decode(latents), whole.decode(latents))


def test_an_edit_of_the_mini_model_in_tiles_is_nearly_the_same_picture(mini: Engine) -> None:
    tiled = Engine.load(None, device="cpu", dtype="float32", memory=Arrangement((Place.DEVICE,) * 4, 3, tiled=True))
    assert tiled._loaded.autoencoder.tile == 16
    edit, results = EditInput(edit_instruction="make it night", seed=1, detail=False), []
    for engine in (tiled, mini):
        *_, state = engine.steps(engine.begin(photo(256), engine.settle(edit)))
        results.append(torch.frombuffer(bytearray(state.pictures[0].rgb), dtype=torch.uint8).float() / 127.5 - 1)
    assert psnr(*results) > 40


def test_an_autoencoder_that_looks_at_the_whole_picture_still_comes_near(tiny_engine: Engine) -> None:
    """The real one norms over all pixels. A random one, in tiles of four latents, is the worst case: 14 dB."""
    torch.manual_seed(0)
    whole = tiny_engine._loaded.autoencoder
    tiled = Autoencoder.of(whole.model, tile=4)
    with torch.inference_mode():
        latents = whole.encode(torch.rand(1, 3, 64, 64) * 2 - 1)
        assert psnr(tiled.decode(latents), whole.decode(latents)) > 10


def test_a_tiled_edit_ends(tiny_folder: Path, picture: Picture) -> None:
    engine = Engine.load(
        tiny_folder, device="cpu", dtype="float32", memory=Arrangement((Place.HOST,) * 4, 0, tiled=True)
    )
    *_, state = engine.steps(engine.begin(picture, engine.settle(short_edit())))
    assert state.pictures[0].size == picture.size
    assert engine.preview(state).size == picture.size
