"""A safety checker: an image classifier of transformers, such as Falconsai/nsfw_image_detection (ViT, Apache-2.0) or
Marqo/nsfw-image-detection-384 (timm layout, Apache-2.0; needs timm)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hidream_edit.domain.errors import ModelFileInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.engine.folders import find_folder, read_json
from hidream_edit.pictures.convert import image_of

UNSAFE = frozenset({"nsfw", "porn", "hentai", "sexy", "explicit", "unsafe", "nudity"})
THRESHOLD = 0.5
CHANNELS = 3
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PictureClassifier:
    """See `SafetyChecker`. A picture is flagged where the labels that mean "unsafe" have half of the probability."""

    def __init__(self, model: Any, name: str, *, size: tuple[int, int], mean: Tensor, deviation: Tensor) -> None:
        self._model, self.name, self._size, self._mean, self._deviation = model, name, size, mean, deviation
        labels = {int(number): str(label).lower() for number, label in model.config.id2label.items()}
        self._unsafe = [number for number, label in labels.items() if label in UNSAFE]
        if not self._unsafe:
            raise ModelFileInvalid(
                f"{name} has no label that means unsafe; it has {', '.join(sorted(labels.values()))}"
            )

    @classmethod
    def load(cls, where: str | Path, *, device: str = "cpu") -> PictureClassifier:
        """From a folder, or an id on the hub.

        Raises:
            ModelNotFound, ModelFileMissing, ModelFileInvalid: it cannot be loaded as an image classifier.
        """
        import transformers

        folder = find_folder(where)
        how = preparation(folder)
        try:
            model = transformers.AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
            raise ModelFileInvalid(f"{where} cannot be loaded as an image classifier: {problem}") from problem
        mean, deviation = (
            torch.tensor(how.get(key, usual)).view(3, 1, 1)
            for key, usual in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_DEVIATION))
        )
        return cls(model.eval().to(device), str(where), size=_size(how), mean=mean, deviation=deviation)

    def flagged(self, pictures: Sequence[Picture]) -> list[bool]:
        if not pictures:
            return []
        batch = torch.stack([self._pixels(picture) for picture in pictures]).to(self._model.device)
        with torch.inference_mode():
            probabilities = self._model(pixel_values=batch).logits.float().softmax(-1)
        return [bool(value) for value in probabilities[:, self._unsafe].sum(-1) >= THRESHOLD]

    def _pixels(self, picture: Picture) -> Tensor:
        """(3, height, width), normalised as the checkpoint was trained."""
        image = image_of(picture, with_alpha=False).resize(self._size, Image.Resampling.BILINEAR)
        values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(*self._size[::-1], 3)
        return (values.permute(2, 0, 1) / 255 - self._mean) / self._deviation


def preparation(folder: Path) -> dict[str, Any]:
    """How pictures are prepared, in the words of transformers; checkpoints of timm say it in their configuration.

    Raises:
        ModelFileMissing, ModelFileInvalid: the folder does not say.
    """
    if not (folder / "preprocessor_config.json").exists() and (folder / "config.json").exists():
        trained = read_json(folder / "config.json").get("pretrained_cfg")
        if isinstance(trained, dict) and len(trained.get("input_size", ())) == CHANNELS:
            _, height, width = trained["input_size"]
            how = {"size": {"height": height, "width": width}}
            return how | {f"image_{name}": trained[name] for name in ("mean", "std") if name in trained}
    return read_json(folder / "preprocessor_config.json")


def _size(how: dict[str, Any]) -> tuple[int, int]:
    """Width and height; checkpoints write one number, two, or the shortest edge."""
    size = how.get("size", 224)
    if isinstance(size, dict):
        edge = int(size.get("shortest_edge", 224))
        return int(size.get("width", edge)), int(size.get("height", edge))
    return int(size), int(size)
