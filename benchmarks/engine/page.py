"""The part of docs/performance.md that the command owns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine.plots import plot_of_edits, plot_of_growth
from benchmarks.engine.report import report_of

BEGIN, END = "<!-- engine: begin (make bench-engine) -->", "<!-- engine: end -->"
INTRODUCTION = """\
## The engine beside the published way

The published way is [benchmarks/plain_pipeline.py](../benchmarks/plain_pipeline.py): diffusers' own transformer class \
and samplers, nothing fused, the adapter unmerged, experts looped over on the host. It is held to recorded runs of the \
published pipeline by the tests. `make bench-engine` measures all of this and writes this part of the page."""
READING = """\
*Times faster*: the official time divided by ours, round by round; the middle one and the range. *Peak memory*: of the \
process over what it held after its imports (on a GPU: what torch allocated). *The floor's share*: the part of an \
edit's time that its matrix products and its attention take on this machine where nothing else is done, at the shapes \
of this model and counted as the published way has them; work that is left out can bring it over 100 %. *Difference*: \
‖ours − official‖/‖official‖ of the final latents, and the largest difference of a pixel."""
GROWTH = """\
Smaller pictures cost the published way as much as the largest: their canvas is padded to the model's full length. \
With text guidance it computes three branches, also where the scales cancel one."""


def write_page(page: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the marks, and write the plots into ``images/`` beside the page.

    Raises:
        ValueError: the page lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} lacks the marks {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    images = page.parent / "images"
    images.mkdir(exist_ok=True)
    parts = [INTRODUCTION]
    plots = {
        "engine-edits.svg": ("Time of an edit beside the published way", plot_of_edits(results)),
        "engine-growth.svg": ("How cost grows with branches, size and steps", plot_of_growth(results)),
    }
    shown = []
    for name, (title, drawn) in plots.items():
        if drawn:
            (images / name).write_text(drawn, encoding="utf-8")
            shown.append(f"![{title}](images/{name})")
    parts += [report_of(results), READING, *shown]
    if len(shown) == len(plots):
        parts.append(GROWTH)
    page.write_text(before + BEGIN + "\n" + "\n\n".join(parts) + "\n" + END + after, encoding="utf-8")
