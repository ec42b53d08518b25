"""Rotation in place beside the plain one."""

from __future__ import annotations

import pytest
import torch

from hidream_edit.engine.model.rotation import canvas_rotation, rotate, rotate_own

ROTATION = canvas_rotation(3, 4, (16, 8, 8))


def heads_of(tokens: int, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(2, tokens, 3, 32), more or fewer tokens than the twelve that have a place."""
    return torch.randn(2, tokens, 3, 32, generator=torch.Generator().manual_seed(tokens)).to(dtype)


@pytest.mark.parametrize("tokens", [5, 12, 20])
def test_in_place_gives_the_numbers_of_the_plain_way(tokens: int) -> None:
    with torch.inference_mode():
        own = heads_of(tokens)
        rotated = rotate_own(own, ROTATION)
        assert rotated.data_ptr() == own.data_ptr()
        assert torch.allclose(rotated, rotate(heads_of(tokens), ROTATION), rtol=0, atol=1e-6)
        # What has no angle stays as it is, to the bit.
        assert torch.equal(rotated[..., :16], heads_of(tokens)[..., :16])
        assert torch.equal(rotated[:, 12:], heads_of(tokens)[:, 12:])


def test_it_does_turn_something() -> None:
    with torch.inference_mode():
        assert not torch.equal(rotate_own(heads_of(12), ROTATION), heads_of(12))


def test_other_precisions_are_rotated_in_float32_and_rounded_once() -> None:
    with torch.inference_mode():
        half = heads_of(12, dtype=torch.bfloat16)
        exact = rotate(half.float(), ROTATION).bfloat16()
        assert torch.equal(rotate(half, ROTATION), exact)
        assert rotate_own(half, ROTATION).data_ptr() == half.data_ptr()
        # In place the float32 numbers may differ by their last bit, and so may what they are rounded to.
        assert torch.allclose(half.float(), exact.float(), rtol=2**-7, atol=1e-6)


def test_gradients_take_the_plain_way() -> None:
    heads = heads_of(12).requires_grad_()
    rotate_own(heads, ROTATION).sum().backward()
    assert heads.grad is not None
