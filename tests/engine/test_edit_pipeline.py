"""The three-line door for programs that work with PIL."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import hidream_edit
from hidream_edit import EditPipeline
from hidream_edit.domain.errors import InputInvalid


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> EditPipeline:
    return EditPipeline.from_pretrained(str(tiny_folder), device="cpu", dtype="float32")


IMAGE = Image.linear_gradient("L").convert("RGB").resize((90, 70))
TWO_STEPS = {"num_inference_steps": 2, "seed": 5}


def test_an_image_and_words_give_an_image_of_the_same_size(pipeline: EditPipeline) -> None:
    result = pipeline(IMAGE, "make it night", num_images=2, **TWO_STEPS)
    assert [image.size for image in result.images] == [(90, 70), (90, 70)]
    assert result.image is result.images[0]
    assert result.seed == 5
    assert result.prompt.startswith("Editing Instruction: make it night.")
    alone = pipeline(IMAGE, "make it night", num_inference_steps=2, seed=6)
    assert alone.image.tobytes() == result.images[1].tobytes()


def test_steps_can_be_watched_and_left(pipeline: EditPipeline) -> None:
    for state in pipeline.steps(IMAGE, "make it night", **TWO_STEPS):
        assert max(pipeline.preview(state, side_max=40).size) == 40
        break
    assert state.step == 1


def test_transparency_comes_back(pipeline: EditPipeline) -> None:
    image = IMAGE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    result = pipeline(image, "make it night", **TWO_STEPS)
    assert result.image.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_a_field_that_does_not_exist_or_is_out_of_bounds_is_refused(pipeline: EditPipeline) -> None:
    with pytest.raises(TypeError, match="strength"):
        pipeline(IMAGE, "make it night", strength=1)
    with pytest.raises(InputInvalid, match="num_images"):
        pipeline(IMAGE, "make it night", num_images=5)


def test_the_package_offers_exactly_what_it_says() -> None:
    assert dir(hidream_edit) == ["AsyncClient", "Client", "EditPipeline", "EditResult", "__version__"]
    assert all(hasattr(hidream_edit, name) for name in dir(hidream_edit))
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        _ = hidream_edit.Pipeline
