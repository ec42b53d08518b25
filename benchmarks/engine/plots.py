"""Two plots: edits beside the published way, and how cost grows."""

from __future__ import annotations

from typing import Any

from benchmarks.engine.report import figure
from benchmarks.engine.summary import lines_of
from benchmarks.engine.svg import COLOURS, Drawing, round_top

LEFT, BAR, GAP, WIDTH = 24, 18, 6, 900
PLOT_WIDTH, PLOT_HEIGHT = 220, 170


def plot_of_edits(results: dict[str, Any]) -> str | None:
    """A group of bars per edit, each as long as its share of the official time; a mark where the floor is."""
    groups = [(case, edit) for case in results["cases"] for edit in case["edits"]]
    if not groups:
        return None
    gpu = results["machine"]["gpu"]
    count = max(len(case["contestants"]) for case, _ in groups)
    tall = 34 + count * (BAR + GAP) + 14
    drawing = Drawing(WIDTH, 70 + tall * len(groups) + 16, "Time of an edit beside the published way")
    entries = [(COLOURS[place], facts["title"]) for place, facts in enumerate(_contestants(results).values())]
    drawing.text(LEFT, 30, "Seconds per edit, as a share of the official method's", style="strong")
    drawing.legend(LEFT, 54, entries)
    longest = WIDTH - 2 * LEFT - 210
    mark = LEFT + 34 + sum(34 + 7 * len(words) for _, words in entries) - 20
    drawing.line(mark, 42, mark, 58, "mark")
    drawing.text(mark + 8, 54, "the floor: products and attention alone")
    y = 70.0
    for case, edit in groups:
        lines = lines_of(case, edit, gpu)
        most = max(line.seconds.middle for line in lines)
        drawing.text(LEFT, y + 22, f"{case['title']}: {edit['label']}")
        top = y + 34
        for place, line in enumerate(lines):
            at, length = top + place * (BAR + GAP), longest * line.seconds.middle / most
            drawing.bar(LEFT, at, length, BAR, COLOURS[place])
            words = f"{figure(line.seconds.middle)} s"
            if line.ratio is not None:
                words += f", {line.ratio.middle:.2f} times faster"
            drawing.text(LEFT + length + 8, at + 14, words, style="strong" if line.ratio else "")
        # The floor's time is the same whoever is asked.
        floor = LEFT + longest * lines[0].floor_share * lines[0].seconds.middle / most
        drawing.line(floor, top - 4, floor, top + len(lines) * (BAR + GAP) - 2, "mark")
        y += tall
    return str(drawing)


def plot_of_growth(results: dict[str, Any]) -> str | None:
    """A small plot per sweep: a row per case."""
    rows = [case for case in results["cases"] if case["sweeps"]]
    if not rows:
        return None
    columns = max(len(case["sweeps"]) for case in rows)
    wide, tall = PLOT_WIDTH + 76, PLOT_HEIGHT + 112
    drawing = Drawing(LEFT + columns * wide, 64 + tall * len(rows), "How cost grows")
    entries = [(COLOURS[place], facts["title"]) for place, facts in enumerate(_contestants(results).values())]
    drawing.legend(LEFT, 30, entries)
    for row, case in enumerate(rows):
        y = 50 + row * tall
        drawing.text(LEFT, y + 22, case["title"], style="strong")
        for column, sweep in enumerate(case["sweeps"]):
            _small_plot(drawing, LEFT + 44 + column * wide, y + 58, sweep)
    return str(drawing)


def _small_plot(drawing: Drawing, x: float, y: float, sweep: dict[str, Any]) -> None:
    points = sweep["points"]
    names = list(points[0]["seconds"])
    values = {
        name: [1 / one["seconds"][name] if sweep["counts_steps"] else one["seconds"][name] for one in points]
        for name in names
    }
    top = round_top(max(max(one) for one in values.values()))
    first: float = points[0]["at"]
    last: float = points[-1]["at"]
    unit = "steps per second" if sweep["counts_steps"] else "seconds per edit"
    drawing.text(x - 40, y - 12, f"{unit}", style="quiet")
    for tick in range(5):
        height = y + PLOT_HEIGHT * (1 - tick / 4)
        drawing.line(x, height, x + PLOT_WIDTH, height, "grid")
        drawing.text(x - 8, height + 4, f"{top * tick / 4:.3g}", anchor="end", style="quiet")

    def across(at: float) -> float:
        return x + 10 + (PLOT_WIDTH - 20) * (at - first) / ((last - first) or 1)

    told = -1e9
    for one in points:
        if across(one["at"]) - told > 22:
            told = across(one["at"])
            drawing.text(told, y + PLOT_HEIGHT + 18, f"{one['at']:g}", anchor="middle", style="quiet")
    drawing.text(x + PLOT_WIDTH / 2, y + PLOT_HEIGHT + 38, sweep["title"], anchor="middle", style="quiet")
    for place, name in enumerate(names):
        drawing.curve(
            [
                (across(one["at"]), y + PLOT_HEIGHT * (1 - value / top))
                for one, value in zip(points, values[name], strict=True)
            ],
            COLOURS[place],
        )


def _contestants(results: dict[str, Any]) -> dict[str, Any]:
    return results["cases"][0]["contestants"]  # type: ignore[no-any-return]
