"""Where results go: names, formats, and what is written into the files."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from pathlib import Path

from hidream_edit.domain.edit import EditSettings
from hidream_edit.domain.errors import InputInvalid
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.encode import OutputFormat, encode
from hidream_edit.pictures.sources import STANDARD_INPUT, is_address
from hidream_edit.version import __version__

SUFFIXES: dict[str, OutputFormat] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
STANDARD_OUTPUT = "-"


@dataclass(frozen=True, slots=True)
class Written:
    """One result, as the JSON report names it."""

    url: str
    width: int
    height: int
    content_type: str


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Decides name and format of every result.

    ``output`` is a file, a folder, ``-`` for standard output, or None for the current folder.
    """

    output: str | None
    output_format: OutputFormat | None
    as_data_uris: bool = False  # sync_mode of the API: nothing is stored

    def check(self, *, sources: int, images: int) -> None:
        """Refuse before any work is done.

        Raises:
            InputInvalid: many results for one place, or a file name of an unknown kind.
        """
        if self.output == STANDARD_OUTPUT and sources * images > 1:
            raise InputInvalid("standard output takes one picture; give a folder to --output", field="output")
        if self.is_file and sources > 1:
            raise InputInvalid(f"{sources} sources do not go into one file; give a folder to --output", field="output")
        if self.is_file and Path(str(self.output)).suffix.lower() not in SUFFIXES:
            raise InputInvalid(f"--output {self.output}: name it .png, .jpg or .jpeg, or give a folder", field="output")

    @property
    def is_file(self) -> bool:
        """Whether ``output`` names one file."""
        if self.output in (None, STANDARD_OUTPUT):
            return False
        return not self.output.endswith("/") and Path(self.output).suffix != "" and not Path(self.output).is_dir()

    @property
    def format(self) -> OutputFormat:
        """As asked for, else by the name of the file, else JPEG as the hosted service."""
        if self.output_format is not None:
            return self.output_format
        return SUFFIXES.get(Path(str(self.output)).suffix.lower(), "jpeg") if self.is_file else "jpeg"

    def path(self, source: str, image_index: int, image_count: int) -> Path:
        """Where image ``image_index`` of ``source`` goes."""
        number = f"-{image_index + 1}" if image_count > 1 else ""
        if self.is_file:
            named = Path(str(self.output))
            return named.with_name(f"{named.stem}{number}{named.suffix}")
        suffix = "jpg" if self.format == "jpeg" else "png"
        return Path(self.output or ".") / f"{_stem(source)}-edited{number}.{suffix}"

    def write(self, picture: Picture, source: str, image_index: int, *, settings: EditSettings, model: str) -> Written:
        """Encode and store one result.

        Raises:
            OSError: it cannot be written.
        """
        about = {
            "software": f"hidream-edit {__version__}",
            "model": model,
            "seed": settings.seed_of_image(image_index),
            "settings": settings.as_json(),
        }
        return self.place(
            encode(picture, self.format, about=about), picture.size, source, image_index, settings.num_images
        )

    def place(self, data: bytes, size: tuple[int, int], source: str, image_index: int, image_count: int) -> Written:
        """Store one result that is a file of the planned format already.

        Raises:
            OSError: it cannot be written.
        """
        kind = f"image/{self.format}"
        if self.as_data_uris:
            uri = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
            return Written(uri, *size, kind)
        if self.output == STANDARD_OUTPUT:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return Written(STANDARD_OUTPUT, *size, kind)
        path = self.path(source, image_index, image_count)
        store(data, path)
        return Written(str(path), *size, kind)


def store(data: bytes, path: Path) -> None:
    """Write beside, then rename: a file that is there is whole.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(data)
    beside.replace(path)


def _stem(source: str) -> str:
    if source == STANDARD_INPUT or source.startswith("data:"):
        return "picture"
    if is_address(source):
        return Path(source.partition("?")[0].rstrip("/").rpartition("/")[2]).stem or "picture"
    return Path(source).stem
