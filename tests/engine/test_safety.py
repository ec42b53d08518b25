"""The safety checker loads what the hub has: an image classifier of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hidream_edit.domain.errors import ModelFileInvalid, ModelFileMissing, ModelNotFound
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.safety import PictureClassifier, preparation

BLACK, WHITE = Picture(8, 6, bytes(8 * 6 * 3)), Picture(8, 6, bytes([255]) * 8 * 6 * 3)


def write_classifier(folder: Path, *, labels: dict[int, str] | None = None, brightness: float = 40.0) -> Path:
    """A tiny classifier in the hub's layout that finds bright pictures unsafe: the class token attends to one patch,
    which tells its mean."""
    import transformers

    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=16,
        patch_size=16,
        id2label=labels or {0: "normal", 1: "nsfw"},
    )
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        state = dict(model.named_parameters())
        next(value for name, value in state.items() if name.endswith("projection.weight"))[0] = 1 / (16 * 16 * 3)
        for name, value in state.items():
            if "layernorm" in name and name.endswith("weight"):
                value.fill_(1)
        state["vit.embeddings.cls_token"][..., 1] = 0.01
        for part in ("value", "v_proj"):
            for name, value in state.items():
                if f"{part}.weight" in name:
                    value[:] = torch.eye(8)
        for name, value in state.items():
            if ("attention.output.dense" in name or "o_proj" in name) and name.endswith("weight"):
                value[:] = torch.eye(8)
        state["classifier.weight"][1, 0] = brightness
    model.save_pretrained(folder)
    how = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(how))
    return folder


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> PictureClassifier:
    return PictureClassifier.load(write_classifier(tmp_path_factory.mktemp("checker")))


def test_each_picture_is_judged_for_itself(checker: PictureClassifier) -> None:
    assert checker.flagged([BLACK, WHITE, BLACK]) == [False, True, False]
    assert checker.flagged([]) == []


def test_size_and_transparency_do_not_matter(checker: PictureClassifier) -> None:
    large = Picture(301, 97, bytes([255]) * 301 * 97 * 3, bytes(301 * 97))
    assert checker.flagged([large]) == [True]


@pytest.mark.parametrize("how", [{"size": 16}, {"size": {"shortest_edge": 16}}, {"size": {"width": 16, "height": 16}}])
def test_the_size_is_read_in_all_the_forms_that_checkpoints_have(tmp_path: Path, how: dict[str, object]) -> None:
    folder = write_classifier(tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps(how))
    assert len(PictureClassifier.load(folder).flagged([WHITE])) == 1


def test_a_checkpoint_of_timm_says_in_its_configuration_how_pictures_are_prepared(tmp_path: Path) -> None:
    trained = {"input_size": [3, 384, 256], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "crop_pct": 1.0}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny", "pretrained_cfg": trained}))
    assert preparation(tmp_path) == {
        "size": {"height": 384, "width": 256},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
    }


def test_a_folder_that_does_not_say_how_pictures_are_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny", "pretrained_cfg": {}}))
    with pytest.raises(ModelFileMissing):
        preparation(tmp_path)


def test_a_classifier_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileInvalid, match="no label that means unsafe; it has cat, dog"):
        PictureClassifier.load(write_classifier(tmp_path, labels={0: "cat", 1: "dog"}))


def test_what_is_no_classifier_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        PictureClassifier.load(tmp_path / "gone")
    with pytest.raises(ModelFileMissing, match="preprocessor_config"):
        PictureClassifier.load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ModelFileInvalid, match="cannot be loaded as an image classifier"):
        PictureClassifier.load(tmp_path)


def test_weights_that_can_run_code_are_not_opened(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileInvalid):
        PictureClassifier.load(folder)
