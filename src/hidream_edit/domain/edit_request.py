"""What a caller of the API asks for: an edit, its source, and the form of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from hidream_edit.domain.edit import EditInput, EditSettings, Fit
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality, Traded


@dataclass(frozen=True, slots=True)
class EditRequest:
    """Fields of the wire, checked. ``image_url`` is a data URI, an address, or ``blob:`` and an id of our own."""

    image_url: str
    edit_input: EditInput
    output_format: Literal["jpeg", "png"] = "jpeg"
    sync_mode: bool = False
    enable_safety_checker: bool = True
    ignored_fields: tuple[str, ...] = ()  # what the caller said that this endpoint does not know

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EditRequest:
        """The request that `as_json` wrote."""
        given = dict(value["edit_input"])
        if given.get("fit") is not None:
            given["fit"] = Fit(given["fit"])
        if given.get("quality") is not None:
            given["quality"] = Quality(given["quality"])
        ignored = tuple(value.get("ignored_fields", ()))
        return cls(**{**value, "edit_input": EditInput(**given), "ignored_fields": ignored})


@dataclass(frozen=True, slots=True)
class EditStarted:
    """The settings are settled, and the first step is about to run."""

    settings: EditSettings
    prompt: str
    warnings: tuple[str, ...]
    steps_total: int  # over all images


@dataclass(frozen=True, slots=True)
class StepDone:
    """One denoising step is done. ``preview`` makes a small picture of where it stands."""

    steps_done: int
    steps_total: int
    preview: Callable[[], Picture]


@dataclass(frozen=True, slots=True)
class ImageMade:
    """An image has had its last step. ``finish`` makes the picture of it, in the source's size: any thread may do so,
    once, while the engine goes on with the next image or edit."""

    finish: Callable[[], Picture]


@dataclass(frozen=True, slots=True)
class EditDone:
    """Every image was made. ``traded`` is None where everything was computed."""

    traded: Traded | None = None


Progress = EditStarted | StepDone | ImageMade | EditDone


class EditEngine(Protocol):
    """What a runner drives. The iterator may be dropped after any step; the edit then ends."""

    name: str
    device: str
    defaults: Mapping[str, Any]  # values of fields that a request leaves out
    examples: tuple[str, ...]  # instructions that the model is good at

    def memory_bytes(self) -> int:
        """What it takes of its device's memory now."""

    def edit(self, source: Picture, edit_input: EditInput) -> Iterator[Progress]:
        """Raises InputInvalid."""
