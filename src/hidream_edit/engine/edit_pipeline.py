"""Three lines to an edited picture, for people who work with PIL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from hidream_edit.domain.edit import EditInput, EditSettings
from hidream_edit.domain.quality import Traded
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.state import EditState
from hidream_edit.pictures.convert import image_of, picture_of


@dataclass(frozen=True, slots=True)
class EditResult:
    """The edited pictures and what they were made with."""

    images: list[Image.Image]
    settings: EditSettings
    prompt: str
    warnings: tuple[str, ...]
    traded: Traded | None = None  # what was done without; None where everything was computed

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self.images[0]

    @property
    def seed(self) -> int:
        """The seed of the first picture; the k-th has seed + k."""
        return self.settings.seed


class EditPipeline:
    """One loaded model. ``pipeline(image, "make it night").image`` is the edited picture."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def from_pretrained(cls, model: str | None = None, **options: Any) -> EditPipeline:
        """Load a model; the options are those of `Engine.load`. Without ``model``, the bundled mini model.

        Raises:
            ModelUnusable: see `Engine.load`.
            DeviceUnavailable: no such device or precision.
        """
        return cls(Engine.load(model, **options))

    def __call__(self, image: Image.Image, instruction: str, **fields: Any) -> EditResult:
        """Edit ``image``; ``fields`` are those of `EditInput`, such as ``seed`` or ``num_inference_steps``.

        Raises:
            InputInvalid: a field is out of bounds.
            TypeError: there is no such field.
        """
        *_, state = self.steps(image, instruction, **fields)
        images = [image_of(picture) for picture in state.pictures]
        return EditResult(images, state.settings, state.prompt, state.warnings, state.traded)

    def steps(self, image: Image.Image, instruction: str, **fields: Any) -> Iterator[EditState]:
        """The same, one denoising step at a time. Leave the loop to stop; `preview` shows how far it is."""
        settings = self.engine.settle(EditInput(edit_instruction=instruction, **fields))
        yield from self.engine.steps(self.engine.begin(picture_of(image), settings))

    def preview(self, state: EditState, *, side_max: int = 256) -> Image.Image:
        """The finished picture as far as ``state`` can tell, small."""
        return image_of(self.engine.preview(state, side_max=side_max))
