"""A decoded picture as a plain value."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels in sRGB, 8 bits per channel, rows from the top, channels interleaved.

    ``rgb`` has ``width * height * 3`` bytes; ``alpha``, where the picture has one, ``width * height``.
    """

    width: int
    height: int
    rgb: bytes = field(repr=False)
    alpha: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a picture has at least one pixel, not {self.width}x{self.height}")
        if len(self.rgb) != self.width * self.height * 3:
            raise ValueError(f"{len(self.rgb)} bytes are not {self.width}x{self.height} RGB pixels")
        if self.alpha is not None and len(self.alpha) != self.width * self.height:
            raise ValueError(f"{len(self.alpha)} bytes are not {self.width}x{self.height} alpha values")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height
