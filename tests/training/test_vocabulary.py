"""What the mini model is taught: families, codes and words."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng
from training.edits import CODE_CLIP_L, CODE_USED, FAMILIES, GROUPS, KEEP, WITH_STRENGTH, Edit, code, families_in
from training.families import TRUTHS, apply
from training.pictures import draw_source
from training.samples import draw_edit, draw_edits, draw_local
from training.wordings import instruction, negative, outside

SOURCE = draw_source(default_rng(1), 96)


def test_the_vocabulary_has_at_least_45_families() -> None:
    assert len(FAMILIES) == len(set(FAMILIES)) >= 45
    assert len(FAMILIES) < CODE_CLIP_L
    assert set(TRUTHS) == set(FAMILIES) - set(GROUPS["local"])


@pytest.mark.parametrize("family", TRUTHS)
def test_a_true_edit_is_deterministic_in_range_and_changes_the_picture(family: str) -> None:
    edit = draw_edit(default_rng(2), family)
    once, again = apply((edit,), SOURCE), apply((edit,), SOURCE)
    assert once.shape == SOURCE.shape
    assert once.dtype == np.float32
    assert (once.min(), once.max()) >= (0, 0)
    assert once.max() <= 1
    assert np.array_equal(once, again)
    assert np.abs(once - SOURCE).mean() > 0.004


@pytest.mark.parametrize("family", sorted(WITH_STRENGTH))
def test_much_changes_more_than_slightly(family: str) -> None:
    base = draw_edit(default_rng(2), family)
    change = {
        strength: np.abs(apply((Edit(family, strength, base.colour),), SOURCE) - SOURCE).mean()
        for strength in ("slight", "normal", "much")
    }
    assert change["slight"] < change["normal"] < change["much"]


@pytest.mark.parametrize("family", GROUPS["local"])
def test_a_local_edit_leaves_most_of_the_scene_alone(family: str) -> None:
    sample = draw_local(default_rng(3), 96, family)
    changed = (np.abs(sample.source - sample.target).max(-1) > 0.02).mean()
    assert 0 < changed < (0.95 if family == "background" else 0.2)


def test_a_code_says_which_families_and_how() -> None:
    vector = code((Edit("warm", "much"), Edit("frame", colour="red")))
    assert families_in(vector) == ("warm", "frame")
    assert vector[KEEP] == 0
    assert vector[CODE_USED:].sum() == 0
    assert not np.array_equal(vector, code((Edit("warm"), Edit("frame", colour="red"))))


def test_keeping_the_picture_and_no_words_at_all_have_different_codes() -> None:
    assert code(())[KEEP] == 1
    assert families_in(code(())) == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_wordings_by_the_hundred_and_others_that_training_never_draws(family: str) -> None:
    rng = default_rng(5)
    if family in GROUPS["local"]:
        edits = [draw_local(rng, 16, family).edits for _ in range(300)]
    else:
        edits = [(draw_edit(rng, family),) for _ in range(300)]
    seen = {instruction(edit, rng).lower().strip(" .!?") for edit in edits}
    unseen = {instruction(edit, rng, held_out=True).lower().strip(" .!?") for edit in edits}
    assert len(seen) > 100
    assert len(unseen) >= 3
    assert len(unseen & seen) <= 0.1 * len(unseen)


def test_strength_words_are_said_where_a_strength_is_meant() -> None:
    rng = default_rng(6)
    texts = [instruction((Edit("warm", "slight"),), rng).lower() for _ in range(50)]
    words = ("slight", "bit", "little", "touch", "somewhat", "gentl")
    with_typos = sum(not any(word in text for word in words) for text in texts)
    assert with_typos <= 8


def test_samples_are_the_same_for_the_same_seed() -> None:
    draws = [[draw_edits(default_rng(7)) for _ in range(1)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert np.array_equal(draw_source(default_rng(8), 32), draw_source(default_rng(8), 32))


def test_texts_outside_the_vocabulary_and_negative_prompts_are_many() -> None:
    rng = default_rng(9)
    assert len({outside(rng) for _ in range(400)}) > 200
    negatives = {negative(rng) for _ in range(200)}
    assert {"", "low resolution, blur"} < negatives
