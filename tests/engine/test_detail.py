"""The small edit carried over to the full-size source: exact where it can be, soft nowhere, seams nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks.engine.memory import PeakMemory
from PIL import Image, ImageFilter

from hidream_edit.engine import detail
from hidream_edit.engine.colour_map import fit_colours
from hidream_edit.engine.detail import fit_regions, restore_detail

PHOTO = Path(__file__).parents[2] / "examples" / "photo.jpg"
SMALL = 96
Edit = Callable[[torch.Tensor], torch.Tensor]


def textured(width: int, height: int, seed: int = 0) -> torch.Tensor:
    """(height, width, 3) uint8 with soft areas, edges and fine texture."""
    rng = np.random.default_rng(seed)
    large = Image.fromarray(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(large, np.float32) + rng.normal(0, 14, (height, width, 1))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (230, 60, 40)
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


def shrunk(pixels: torch.Tensor, size: int = SMALL) -> torch.Tensor:
    """(size, size, 3) in 0…1."""
    image = Image.fromarray(pixels.numpy()).resize((size, size), Image.LANCZOS)
    return torch.from_numpy(np.asarray(image, np.float32) / 255)


def plain(small: torch.Tensor, height: int, width: int) -> torch.Tensor:
    grown = F.interpolate(small.permute(2, 0, 1)[None], (height, width), mode="bicubic", align_corners=False)
    return grown[0].permute(1, 2, 0).clamp(0, 1)


def decibels(ours: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10(((ours - truth) ** 2).mean() + 1e-12))


def warm(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels * torch.tensor([1.15, 1.0, 0.7])).clamp(0, 1)


def grayscale(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels @ torch.tensor([0.299, 0.587, 0.114]))[..., None].expand(-1, -1, 3).contiguous()


def vignette(pixels: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, pixels.shape[0]), torch.linspace(-1, 1, pixels.shape[1]), indexing="ij"
    )
    return pixels * (1 - 0.5 * (rows**2 + columns**2))[..., None].clamp(0, 1)


@pytest.mark.parametrize("size", [(640, 480), (301, 1), (1, 1), (96, 96), (50, 700)])
def test_a_picture_that_was_not_changed_comes_back_within_one_level(size: tuple[int, int]) -> None:
    source = textured(*size)
    small = shrunk(source)
    result = restore_detail(source, small, small.clone())
    assert (result.int() - source.int()).abs().max() <= 1


@pytest.mark.parametrize("edit", [warm, grayscale, vignette, lambda pixels: 1 - pixels])
def test_an_edit_that_the_source_explains_keeps_the_sources_own_detail(edit: Edit) -> None:
    source = textured(600, 400)
    truth = edit(source.float() / 255)
    small = shrunk(source)
    made = edit(small)
    ours = decibels(restore_detail(source, small, made).float() / 255, truth)
    assert ours > decibels(plain(made, 400, 600), truth) + 5
    assert ours > 30


def test_noise_of_the_model_does_not_reach_the_result() -> None:
    source = textured(600, 400)
    small = shrunk(source)
    noisy = warm(small) + 0.02 * torch.randn(small.shape, generator=torch.Generator().manual_seed(0))
    assert decibels(restore_detail(source, small, noisy.clamp(0, 1)).float() / 255, warm(source.float() / 255)) > 30


def test_an_edit_that_the_source_does_not_explain_is_enlarged_as_it_is() -> None:
    source = textured(600, 400)
    small = shrunk(source)
    mirrored = small.flip(1)
    result = restore_detail(source, small, mirrored).float() / 255
    assert decibels(result, plain(mirrored, 400, 600)) > 27


def test_a_blur_of_texture_that_the_model_can_see_stays_a_blur() -> None:
    coarse = np.random.default_rng(0).integers(40, 216, (60, 90, 3), dtype=np.uint8)
    source = torch.from_numpy(np.array(Image.fromarray(coarse).resize((600, 400), Image.BICUBIC)))
    small = shrunk(source)
    image = Image.fromarray((small * 255).to(torch.uint8).numpy()).filter(ImageFilter.GaussianBlur(4))
    blurred = torch.from_numpy(np.asarray(image, np.float32) / 255)
    result = restore_detail(source, small, blurred).float() / 255
    assert (result[:, 1:] - result[:, :-1]).abs().mean() < 0.4 * (source.float() / 255).diff(dim=1).abs().mean()


def test_no_halo_lies_around_a_hard_edge() -> None:
    source = torch.full((400, 400, 3), 60, dtype=torch.uint8)
    source[:, 200:] = 190
    small = shrunk(source)
    result = restore_detail(source, small, (small * 0.7 + 0.1).clamp(0, 1)).float() / 255
    truth = source.float() / 255 * 0.7 + 0.1
    assert (result - truth).abs().max() < 0.02


def test_strips_leave_no_seams() -> None:
    width, height = 2000, 1077  # dozens of strips, the last one shorter
    source = torch.full((height, width, 3), 128, dtype=torch.uint8)
    source[..., 0] = torch.linspace(40, 220, height)[:, None].to(torch.uint8)
    small = shrunk(source, 256)
    result = restore_detail(source, small, vignette(small)).float()
    curvature = result[2:] - 2 * result[1:-1] + result[:-2]
    assert curvature.abs().max() <= 4  # rounding alone gives up to 3


def contrast(pixels: torch.Tensor) -> torch.Tensor:
    return ((pixels - 0.5) * 2.5 + 0.5).clamp(0, 1)


def photo(width: int, height: int) -> torch.Tensor:
    with Image.open(PHOTO) as image:
        return torch.from_numpy(np.array(image.convert("RGB").resize((width, height), Image.BICUBIC)))


def grown_plainly(maps: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Cubic convolution in float64, each place from its four neighbours."""
    side = maps.shape[axis]
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * side / size - 0.5
    apart = (centre[:, None] - torch.arange(-2, side + 2)).abs()
    near, far = 1.5 * apart**3 - 2.5 * apart**2 + 1, -0.5 * apart**3 + 2.5 * apart**2 - 4 * apart + 2
    weights = torch.where(apart <= 1, near, torch.where(apart < 2, far, 0.0))
    edges = torch.arange(-2, side + 2).clamp(0, side - 1)
    return torch.movedim(torch.tensordot(weights, maps.index_select(axis, edges), ([1], [axis])), 0, axis)


def restored_plainly(source: torch.Tensor, seen: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """What `restore_detail` says that it does, in one piece and in float64: no strips, and no table for bytes."""
    colours = fit_colours(seen.permute(2, 0, 1), made.permute(2, 0, 1))
    local = fit_regions(colours(seen).permute(2, 0, 1), made.permute(2, 0, 1))
    maps = torch.cat(tuple(local)).double()
    for axis, size in ((1, source.shape[0]), (2, source.shape[1])):
        maps = grown_plainly(maps, size, axis)
    mapped = type(colours)(colours.nodes.double())(source.double() / 255).permute(2, 0, 1)
    edited = maps[:3] * mapped + maps[3:]
    return (edited.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)


@pytest.mark.parametrize("edit", [warm, contrast, lambda pixels: pixels.flip(1), lambda pixels: 1 - pixels])
@pytest.mark.parametrize(
    "source",
    [
        photo(1500, 1000),
        photo(300, 200),
        textured(1234, 987, seed=3),
        torch.rand(1001, 1000, 3, generator=torch.Generator().manual_seed(4)) * 255,
    ],
    ids=["large photo", "small photo", "drawn", "random"],
)
def test_the_quick_way_is_the_plain_way_but_for_rounding(source: torch.Tensor, edit: Edit) -> None:
    source = source.to(torch.uint8)
    small = shrunk(source)
    made = (edit(small) + 0.01 * torch.randn(small.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    apart = (restore_detail(source, small, made).int() - restored_plainly(source, small, made)).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.005


def test_a_table_for_bytes_changes_no_more_than_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(600, 400)
    small = shrunk(source)
    results = []
    for many in (1, source.numel()):
        monkeypatch.setattr(detail, "MANY_PIXELS", many)
        results.append(restore_detail(source, small, contrast(small)).int())
    assert (results[0] - results[1]).abs().max() <= 1
    assert (results[0] != results[1]).float().mean() < 0.001


def test_the_result_may_take_the_place_of_the_source() -> None:
    source = photo(1200, 900)
    small = shrunk(source)
    result = restore_detail(source, small, warm(small))
    place = source.clone()
    assert restore_detail(place, small, warm(small), out=place) is place
    assert torch.equal(place, result)
    assert not torch.equal(place, source)


@pytest.mark.parametrize("strip_pixels", [1_000_000, 5_000, 1])
def test_the_size_of_strips_changes_no_more_than_rounding(monkeypatch: pytest.MonkeyPatch, strip_pixels: int) -> None:
    source = textured(700, 311)
    small = shrunk(source, 256)
    result = restore_detail(source, small, warm(small)).int()
    monkeypatch.setattr(detail, "STRIP_PIXELS", strip_pixels)
    other = restore_detail(source, small, warm(small))
    assert (other - result).abs().max() <= 1
    assert (other != result).float().mean() < 0.001


def test_the_same_call_gives_the_same_bits() -> None:
    source = photo(1500, 1000)
    small = shrunk(source)
    assert torch.equal(restore_detail(source, small, warm(small)), restore_detail(source, small, warm(small)))


@pytest.mark.parametrize("in_place", [False, True])
def test_memory_grows_by_the_result_and_little_more(in_place: bool) -> None:
    source = textured(2400, 1800)
    small = shrunk(source, 256)
    place = source.clone() if in_place else None
    restore_detail(source[:600].contiguous(), small, warm(small))
    memory = PeakMemory(torch.device("cpu"))
    memory.restart()
    restore_detail(source if place is None else place, small, warm(small), out=place)
    result = 0 if in_place else source.numel()
    assert memory.bytes() < result + 40 * 2**20  # gain and offset at full width, 10 MiB of table, strips
