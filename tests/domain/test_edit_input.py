"""What a request may say, and what it means where it says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_edit.domain.edit import BOUNDS, EditDefaults, EditInput, EditSettings, Fit
from hidream_edit.domain.errors import InputInvalid


def settled(edit_input: EditInput, defaults: EditDefaults | None = None) -> EditSettings:
    return edit_input.settled(defaults or EditDefaults(), random_seed=lambda: 42)


def test_a_field_that_is_left_out_takes_the_default_of_the_model() -> None:
    defaults = EditDefaults(num_inference_steps=7, guidance_scale=1.5)
    assert settled(EditInput(), defaults).num_inference_steps == 7
    assert settled(EditInput(num_inference_steps=3), defaults).num_inference_steps == 3


def test_the_defaults_are_those_of_the_hosted_page() -> None:
    settings = settled(EditInput())
    assert (settings.num_inference_steps, settings.guidance_scale, settings.image_guidance_scale) == (50, 3.5, 2.0)
    assert settings.negative_prompt == "low resolution, blur"


def test_a_false_or_zero_that_was_given_is_not_taken_for_left_out() -> None:
    defaults = EditDefaults(detail=True, guidance_scale=3.5)
    settings = settled(EditInput(detail=False, guidance_scale=0.0, negative_prompt=""), defaults)
    assert (settings.detail, settings.guidance_scale, settings.negative_prompt) == (False, 0.0, "")


def test_a_random_seed_is_drawn_only_where_none_was_given() -> None:
    def unexpected() -> int:
        raise AssertionError("the seed was given")

    assert EditInput(seed=0).settled(EditDefaults(), random_seed=unexpected).seed == 0
    assert settled(EditInput()).seed == 42


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_inclusive_and_outside_of_them_the_field_is_named(name: str) -> None:
    bounds = BOUNDS[name]
    for inside in (bounds.ge, bounds.le):
        assert getattr(settled(EditInput(**{name: inside})), name) == inside
    for outside, kind in ((bounds.ge - 1, "greater_than_equal"), (bounds.le + 1, "less_than_equal")):
        with pytest.raises(InputInvalid, match=name) as caught:
            settled(EditInput(**{name: outside}))
        assert (caught.value.field, caught.value.kind) == (name, kind)
        assert list(caught.value.context.values()) == [bounds.ge if outside < bounds.ge else bounds.le]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(InputInvalid, match="finite"):
        settled(EditInput(guidance_scale=value))


@given(st.integers(0, 2**64 - 1), st.integers(0, 3))
def test_image_k_has_seed_plus_k_and_wraps_around_at_64_bits(seed: int, k: int) -> None:
    assert settled(EditInput(seed=seed)).seed_of_image(k) == (seed + k) % 2**64


def test_settings_survive_json_and_refuse_fields_that_they_do_not_know() -> None:
    settings = settled(EditInput(edit_instruction="make it night", fit=Fit.PAD))
    assert EditSettings.from_json(settings.as_json()) == settings
    with pytest.raises(ValueError, match="strength"):
        EditSettings.from_json(settings.as_json() | {"strength": 1})


def test_a_model_may_take_more_steps_where_guidance_is_strong_and_steps_are_left_out() -> None:
    defaults = EditDefaults(num_inference_steps=4, guidance_scale=1.0, steps_per_guidance=4.0)

    def steps(**fields: float) -> int:
        return EditInput(**fields).settled(defaults, random_seed=lambda: 1).num_inference_steps  # type: ignore[arg-type]

    assert steps() == 4
    assert steps(guidance_scale=3.5) == 14
    assert steps(guidance_scale=20) == 50
    assert steps(guidance_scale=3.5, num_inference_steps=2) == 2
