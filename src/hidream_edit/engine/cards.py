"""What a loaded model is and can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hidream_edit.domain.edit import EditDefaults, Fit
from hidream_edit.domain.errors import InputInvalid, ModelFileInvalid
from hidream_edit.domain.quality import quality_named
from hidream_edit.engine.folders import read_json

# For models that take any instruction; the first is the hosted page's own.
EXAMPLES = (
    "Convert the image into a 3D animated style.", "Turn it into a Ghibli style illustration", "Make it a rainy night",
    "Change the background to a beach at sunset", "Make it a pencil sketch", "Add a red scarf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The families of edits that a small model knows, and where its pooled text embedding says so."""

    slots: Mapping[str, int]  # family → index into the pooled embedding
    threshold: float
    examples: Mapping[str, tuple[str, ...]]
    keep: str  # an instruction that leaves the picture as it is, run in place of one that asks for no known family

    def families_in(self, pooled: list[float]) -> tuple[str, ...]:
        """Families that an instruction asks for, by its pooled embedding."""
        return tuple(family for family, slot in self.slots.items() if pooled[slot] > self.threshold)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Facts about a loaded model."""

    name: str
    source: str
    working_size: int  # side in pixels of the square that the model works on
    defaults: EditDefaults
    fingerprint: str
    vocabulary: Vocabulary | None = None  # None: any instruction may be tried
    is_random: bool = False  # random weights, made for tests: pictures are noise

    @property
    def examples(self) -> tuple[str, ...]:
        """Instructions that this model is good at, one of each kind of edit."""
        if self.vocabulary is None:
            return EXAMPLES
        return tuple(examples[0] for examples in self.vocabulary.examples.values())


def read_defaults(folder: Path, otherwise: EditDefaults) -> EditDefaults:
    """The folder's own defaults, from ``defaults.json`` where it has one.

    Raises:
        ModelFileInvalid: it names a field or a quality that does not exist.
    """
    file = folder / "defaults.json"
    if not file.is_file():
        return otherwise
    given = {key: value for key, value in read_json(file).items() if key != "working_size"}
    unknown = given.keys() - {field.name for field in fields(EditDefaults)}
    if unknown:
        raise ModelFileInvalid(f"{file} sets {', '.join(sorted(unknown))}, which no edit has")
    if "fit" in given:
        given["fit"] = Fit(given["fit"])
    if "quality" in given:
        try:
            given["quality"] = quality_named(str(given["quality"]))
        except InputInvalid as wrong:
            raise ModelFileInvalid(f"{file}: {wrong}") from wrong
    return replace(otherwise, **given)


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The folder's ``vocabulary.json``, where it has one.

    Raises:
        ModelFileInvalid: it is not in the expected form.
    """
    file = folder / "vocabulary.json"
    if not file.is_file():
        return None
    content: dict[str, Any] = read_json(file)
    try:
        families = content["families"]
        return Vocabulary(
            {family["name"]: int(family["slot"]) for family in families},
            float(content["threshold"]),
            {family["name"]: tuple(family["examples"]) for family in families if family.get("supported", True)},
            str(content["keep"]),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise ModelFileInvalid(f"{file} is not a vocabulary: {problem}") from problem
