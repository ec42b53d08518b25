"""An edit that is done."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

SHOWN_SIDE_MAX = 768
SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """The edited pictures and what they were made with; picture k has ``seed`` + k.

    ``source`` is the picture before, where the client has it; ``files`` holds the very bytes that the server made.
    ``quality`` says what was traded for time or memory, in numbers; None where nothing was.
    """

    images: tuple[Image.Image, ...] = field(repr=False)
    files: tuple[bytes, ...] = field(repr=False)
    urls: tuple[str, ...] = field(repr=False)
    seed: int
    prompt: str
    has_nsfw_concepts: tuple[bool, ...]
    timings: Mapping[str, float]
    request_id: str
    warnings: tuple[str, ...] = ()
    quality: Mapping[str, Any] | None = None
    source: Image.Image | None = field(default=None, repr=False)

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self.images[0]

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write the pictures: one as ``path``, several as ``path-1``, ``path-2``… before the suffix. Where the format
        is the one that the server made, its bytes are written, with the settings in them.

        Raises:
            OSError: it cannot be written.
            ValueError: the suffix is no format.
        """
        named, written = Path(path), []
        for number, (image, data) in enumerate(zip(self.images, self.files, strict=True), 1):
            made_as = "JPEG" if data.startswith(b"\xff\xd8") else "PNG"
            one = named if named.suffix else named.with_name(named.name + SUFFIXES[made_as][0])
            one = one if len(self.images) == 1 else one.with_name(f"{one.stem}-{number}{one.suffix}")
            if one.suffix.lower() in SUFFIXES[made_as]:
                one.write_bytes(data)
            else:
                is_opaque = one.suffix.lower() in SUFFIXES["JPEG"]
                (_on_white(image) if is_opaque else image).save(one)
            written.append(one)
        return tuple(written)

    def _repr_html_(self) -> str:
        before = [] if self.source is None else [_figure(self.source, "before")]
        after = [
            _figure(image, "after" if len(self.images) == 1 else f"after, seed {self.seed + number}")
            for number, image in enumerate(self.images)
        ]
        caption = html.escape(f"{self.prompt}  ·  seed {self.seed}")
        row = "".join(before + after)
        return f'<div><div style="display:flex;flex-wrap:wrap;gap:8px">{row}</div><small>{caption}</small></div>'

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}


def _figure(image: Image.Image, caption: str) -> str:
    shown = image.copy()
    shown.thumbnail((SHOWN_SIDE_MAX, SHOWN_SIDE_MAX))
    buffer, kind = io.BytesIO(), "png" if shown.mode not in ("RGB", "L") else "jpeg"
    (shown.convert("RGBA") if kind == "png" else shown).save(buffer, kind)
    uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return (
        f'<figure style="margin:0"><img src="{uri}" alt="{caption}" style="max-width:100%">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGB", "L"):
        return image
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
