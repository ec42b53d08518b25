"""A picture of what happened when: lanes of bars over milliseconds, as an SVG that can be read in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, LEFT, RIGHT, ROW, TOP, FOOT = 1000, 150, 16, 26, 64, 34
BAR = 18
GROUND, INK, FAINT = "#ffffff", "#1f2328", "#8c959f"
FONT = 'font-family="system-ui, sans-serif" font-size="12"'
MIDDLE = 'text-anchor="middle"'
STEPS = (1, 2, 5)
LABELS = 8  # about so many numbers on the axis
LETTER = 6.4  # pixels of one, at the size of labels


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took from ``began`` to ``ended``, in seconds on any clock."""

    lane: str
    kind: str
    began: float
    ended: float
    label: str = ""


def timeline(title: str, bars: Sequence[Bar], lanes: Sequence[str], colours: dict[str, str]) -> str:
    """The picture. Bars of one lane that overlap go into rows of their own."""
    first, last = min(bar.began for bar in bars), max(bar.ended for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / (last - first)
    rows = [(lane, row) for lane in lanes for row in _rows([bar for bar in bars if bar.lane == lane])]
    bottom = TOP + ROW * len(rows)
    height = bottom + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT} role="img">',
        f"<title>{escape(title)}</title>",
        # A ground of its own: as a picture in a page it is not told which colours the page has.
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{GROUND}" stroke="{FAINT}" stroke-opacity=".4"/>',
        f'<text x="16" y="24" font-size="14" font-weight="600" fill="{INK}">{escape(title)}</text>',
        *_legend([kind for kind in colours if any(bar.kind == kind for bar in bars)], colours),
        *_axis(last - first, scale, bottom),
    ]
    for lane, group in groupby(enumerate(rows), key=lambda row: row[1][0]):
        inside = list(group)
        top, below = TOP + ROW * inside[0][0], TOP + ROW * (inside[-1][0] + 1)
        parts.append(f'<text x="16" y="{(top + below) / 2 + 4:.1f}" fill="{INK}">{escape(lane)}</text>')
        parts.append(f'<path d="M16 {below}H{WIDTH - RIGHT}" stroke="{FAINT}" stroke-opacity=".35"/>')
        for number, (_, row) in inside:
            parts += [_bar(bar, first, scale, TOP + ROW * number, colours[bar.kind]) for bar in row]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rows(bars: Sequence[Bar]) -> list[list[Bar]]:
    rows: list[list[Bar]] = []
    for bar in sorted(bars, key=lambda bar: bar.began):
        free = next((row for row in rows if row[-1].ended <= bar.began), None)
        if free is None:
            rows.append([bar])
        else:
            free.append(bar)
    return rows


def _bar(bar: Bar, first: float, scale: float, top: float, colour: str) -> str:
    x, width = LEFT + (bar.began - first) * scale, max(1.0, (bar.ended - bar.began) * scale)
    told = f"{bar.label or bar.kind}: {1000 * (bar.ended - bar.began):.1f} ms"
    drawn = f'<rect x="{x:.1f}" y="{top + 4}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
    text = ""
    if bar.label and len(bar.label) * LETTER + 6 < width:
        text = f'<text x="{x + width / 2:.1f}" y="{top + 17}" {MIDDLE} fill="{GROUND}">{escape(bar.label)}</text>'
    return f"<g><title>{escape(told)}</title>{drawn}{text}</g>"


def _legend(kinds: Sequence[str], colours: dict[str, str]) -> list[str]:
    parts, x = [], 16.0
    for kind in kinds:
        parts.append(f'<rect x="{x:.0f}" y="37" width="12" height="12" rx="2" fill="{colours[kind]}"/>')
        parts.append(f'<text x="{x + 17:.0f}" y="47" fill="{INK}">{escape(kind)}</text>')
        x += 17 + LETTER * len(kind) + 18
    return parts


def _axis(seconds: float, scale: float, bottom: float) -> list[str]:
    step = _step(seconds)
    parts = []
    for number in range(int(seconds / step) + 1):
        x = LEFT + number * step * scale
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{FAINT}" stroke-opacity=".35"/>')
        words = f"{1000 * number * step:,.0f}{'' if number else ' ms'}"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" {MIDDLE} fill="{INK}">{words}</text>')
    return parts


def _step(seconds: float) -> float:
    """Between two numbers of the axis: 1, 2 or 5 of a power of ten."""
    return min(
        (digit * 10.0**power for power in range(-4, 4) for digit in STEPS),
        key=lambda step: abs(seconds / step - LABELS),
    )
