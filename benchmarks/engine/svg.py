"""Plots as text: what little of SVG bars and lines need, on a panel that follows the reader's colour scheme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

# By place: the published way, then ours in each preset. Told apart by lightness too, for those who see fewer colours.
COLOURS = ("#8b949e", "#1f6feb", "#2da44e", "#bf8700")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.quiet{fill:#57606a;font-size:12px}"
    ".strong{font-weight:600}.panel{fill:#fff}.grid{stroke:#d0d7de}.mark{stroke:#cf222e;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9da7b3}.panel{fill:#161b22}"
    ".grid{stroke:#30363d}.mark{stroke:#ff7b72}}"
)


@dataclass
class Drawing:
    """Shapes in the order in which they are painted."""

    width: float
    height: float
    title: str
    shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", style: str = "") -> None:
        """Words whose base line begins, or by ``anchor`` ends or has its middle, at the point."""
        self.shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" rx="2" fill="{colour}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        self.shapes.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def curve(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """Points joined by lines."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        self.shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]

    def legend(self, x: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
        """Colour and words, side by side."""
        for colour, words in entries:
            self.bar(x, y - 10, 12, 12, colour)
            self.text(x + 18, y, words)
            x += 34 + 7 * len(words)

    def __str__(self) -> str:
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{escape(self.title)}</title>\n'
            f'<style>{STYLE}</style>\n<rect class="panel" width="100%" height="100%" rx="8"/>\n'
            + "\n".join(self.shapes)
            + "\n</svg>\n"
        )


def round_top(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten: where an axis may end."""
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    return next(power * part for part in (0.2, 0.5, 1.0) if power * part >= value)
