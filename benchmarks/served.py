"""Where a served edit spends its time: spans of real processes, of one request and of ten in a row.

    make bench-trace

Starts a collector of traces, `hidream-edit serve` on SQLite and a folder, and a runner with the mini model whose
engine tells of its parts (`traced_runner.py`). Sends a streamed edit and then ten through the queue, each with an
upload of its own. Prints a table, draws `docs/images/trace-one.svg` and `trace-ten.svg`, and writes the page
docs/performance.md.

With ``--beside FOLDER``, the `src` of another version, both are measured in turns; that is how ratios in
benchmarks/LOG.md came to be. With ``--step-seconds``, steps take that long and no processor (`traced_runner.py`): what
waits for what where the device is a GPU, without one. Neither writes the page.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from benchmarks.timeline import Bar, timeline
from PIL import Image
from tests.support.collector import Collected, Collector

from hidream_edit.client import Client, Edit
from hidream_edit.wiring.threads import threads_of_runner

ROOT = Path(__file__).parents[1]
PHOTO, RUNNER = ROOT / "examples" / "photo.jpg", ROOT / "benchmarks" / "traced_runner.py"
PAGE, PICTURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "images"
PRETENDED = "PRETEND_STEP_SECONDS"
BEGIN, END = "<!-- trace: begin (make bench-trace) -->", "<!-- trace: end -->"
SHIFT_PIXELS = 4
WORDS = ("warm", "night", "autumn", "vintage", "sepia", "cool", "foggy", "rainy", "a watercolour", "a pencil sketch")
SENT_SECONDS, LATE_SECONDS = 0.05, 1.5  # how often processes send their spans; after which all have come


@dataclass(frozen=True, slots=True)
class Run:
    """What one server told, and how long its callers waited."""

    one: list[Collected]
    ten: list[Collected]
    seconds: dict[str, float]


@contextlib.contextmanager
def serving(source: Path, folder: Path, collector: Collector, step_seconds: float | None) -> Iterator[str]:
    """The address of a server that is ready; its processes run the package in ``source``, and its runner has what
    `serve` gives its own."""
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": str(int(1000 * SENT_SECONDS))}
    environment = (
        os.environ | tracing | {"PYTHONPATH": str(source), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    )
    program = [sys.executable, "-m", "hidream_edit", "serve", "--no-runner", "--port", "0", "--data", str(folder)]
    of_runner = environment | threads_of_runner(1) | ({} if step_seconds is None else {PRETENDED: str(step_seconds)})
    server = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL, env=environment)
    assert server.stdout is not None
    url = next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    runner = subprocess.Popen([sys.executable, str(RUNNER), "--data", str(folder)], env=of_runner, **quiet)
    try:
        while httpx.get(f"{url}/health/ready").status_code != httpx.codes.OK:
            assert runner.poll() is None, "the runner ended before it was ready"
            time.sleep(0.02)
        yield url
    finally:
        for process in (runner, server):
            process.terminate()
            process.wait()
        server.stdout.close()


def photo(megapixels: float, number: int = 0) -> bytes:
    """The example as large as a phone takes it. Those with other numbers are other pictures, a little to the right: the
    engine keeps the latents of what it saw last."""
    with Image.open(PHOTO) as small:
        left = number * SHIFT_PIXELS
        scale = (megapixels * 1e6 / (small.width * small.height)) ** 0.5
        size = round(small.width * scale), round(small.height * scale)
        large = small.resize(size, Image.Resampling.BICUBIC, box=(left, 0, small.width, small.height))
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def measured(source: Path, pictures: Sequence[bytes], steps: int, step_seconds: float | None = None) -> Run:
    """One server's life: its first edits, one that is streamed, ten that wait in the queue, each of its own picture."""
    first, streamed, *queued = pictures
    seconds: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Collector() as collector,
        serving(source, Path(folder), collector, step_seconds) as url,
        Client(url) as client,
    ):
        for name in ("first edit", "second edit", "third edit"):  # words of their own: no text is there already
            with taking(seconds, name):
                client.edit(first, f"turn it into a {name}", seed=1)
        for _ in client.stream(first, "let it be warm", num_inference_steps=steps, seed=1):
            pass
        time.sleep(LATE_SECONDS)
        collector.spans.clear()
        with taking(seconds, "streamed edit"):
            told = list(client.stream(streamed, "make it night", num_inference_steps=steps, seed=2))
        seconds["previews"] = sum(not isinstance(event, Edit) for event in told)
        time.sleep(LATE_SECONDS)
        one = list(collector.spans)
        collector.spans.clear()
        uploads = [client.upload(picture) for picture in queued]
        with taking(seconds, "ten in a row"):
            waiting = [client.submit(url, f"make it {word}", seed=3) for url, word in zip(uploads, WORDS, strict=True)]
            for submitted in waiting:
                client.result(submitted)
        time.sleep(LATE_SECONDS)
        ten = list(collector.spans)
    return Run(one, ten, seconds)


@contextlib.contextmanager
def taking(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block took."""
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began


def stages(spans: Sequence[Collected]) -> dict[str, list[float]]:
    """Seconds of each stage, by its name below that of what it belongs to."""
    names = {span.id: span.name for span in spans}
    found: dict[str, list[float]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.began):
        inside = names.get(span.parent, "")
        found[f"{inside} > {span.name}" if inside not in ("", "request", "submit", "attempt") else span.name].append(
            span.seconds
        )
    return found


def idle_seconds(spans: Sequence[Collected]) -> list[float]:
    """For each edit but the first: how long the device waited for it after the one before."""
    edits = sorted((span.began, span.began + span.seconds) for span in spans if span.name == "edit")
    return [later[0] - sooner[1] for sooner, later in itertools.pairwise(edits)]


LANES = ("API", "in the line", "device", "reader", "previews", "beside")
COLOURS = {
    "request": "#57606a", "waits": "#afb8c1", "source": "#bf3989", "text, latents in": "#8250df", "step": "#0969da",
    "source's size, detail": "#0a7d8c", "preview": "#bc4c00", "encode, store, end": "#1a7f37",
}  # fmt: skip
AT_DEVICE = {"engine: begin": "text, latents in", "engine: step": "step", "engine: preview": "preview"}
PICTURE = "engine: picture, beside"
AT_END = {PICTURE: "source's size, detail"} | dict.fromkeys(("encode", "store", "complete"), "encode, store, end")


def bars_of(spans: Sequence[Collected]) -> list[Bar]:
    """What the picture shows: each span where its work was done."""
    by_id = {span.id: span for span in spans}
    ids = [span.facts["hidream_edit.request_id"] for span in spans if span.name == "submit"]
    numbers = {name: str(number) for number, name in enumerate(ids, 1)} if len(ids) > 1 else {}

    edits, finishes = (
        sorted((span for span in spans if span.name == name), key=lambda span: -span.began)
        for name in ("edit", "finish")
    )

    def number_of(span: Collected) -> str:
        while "hidream_edit.request_id" not in span.facts and span.parent in by_id:
            span = by_id[span.parent]
        if span.name in AT_DEVICE or span.name == PICTURE:
            # The engine knows no requests; one edit is on the device at a time, and of the pictures beside it the one
            # that was begun last, a moment ago.
            around = finishes if span.name == PICTURE else edits
            span = next((one for one in around if one.began <= span.began <= one.began + one.seconds), span)
            span = by_id.get(span.parent, span)
        return numbers.get(span.facts.get("hidream_edit.request_id", ""), "")

    bars = []
    for span in spans:
        began, ended, inside = span.began, span.began + span.seconds, by_id.get(span.parent)
        lane, kind, label = "", "", number_of(span)
        if span.name == "request":
            lane, kind, label = "API", "request", "" if numbers else "POST"
        elif span.name == "queue wait" and numbers:
            lane, kind = "in the line", "waits"
        elif span.name in ("fetch source", "decode"):
            is_ahead = inside is not None and inside.name == "read ahead"
            lane, kind = "reader" if is_ahead else "device", "source"
        elif span.name in AT_DEVICE:
            lane, kind = "device", AT_DEVICE[span.name]
            label = label if span.name == "engine: begin" else ""
        elif span.name == "preview":
            lane, kind = "previews", "preview"
        elif span.name in AT_END:
            lane, kind = "beside", AT_END[span.name]
        if lane:
            bars.append(Bar(lane, kind, began, ended, label))
    return bars


ROWS = (
    ("fetch source", "fetch the source, when a job asks for it"),
    ("decode", "decode it, when a job asks for it"),
    ("read ahead > fetch source", "fetch the source, ahead, beside the edit before"),
    ("read ahead > decode", "decode it, ahead, beside the edit before"),
    ("engine: begin", "fit, text, encode latents, noise"),
    ("text encoders", "of that: text"),
    ("autoencoder: encode", "of that: encode latents"),
    ("engine: step", "a step"),
    ("engine: preview", "a preview: the small picture, between two steps"),
    ("preview", "a preview: encode, store, tell, beside the steps"),
    ("autoencoder: decode", "decode latents (previews too)"),
    (PICTURE, "the picture at the source's size, beside the next edit"),
    ("detail, beside", "of that: detail"),
    ("encode", "encode the result, beside the next edit"),
    ("store", "store it, beside the next edit"),
    ("complete", "write the end, beside the next edit"),
)


PAGE_WORDS = """\
## Where a served edit spends its time

The mini model on a CPU through a real server (SQLite, folder), photographs of {megapixels} megapixels: a streamed edit
of {steps} steps with previews, and ten edits at the defaults that were put into the queue at once. Milliseconds,
medians. {cores} cores, load {load} when it began; other work makes times longer, what is beside what stays.

| stage | one | ten in a row |
|---|---|---|
{rows}

Between two of the ten, the device waited {idle} ms for the next job (median).

![One streamed edit: the source, steps with previews beside them, detail, the end](images/trace-one.svg)

![Ten edits in a row: sources are read and results are finished and saved beside the edits](images/trace-ten.svg)

Why the next source is read before its job is claimed, and what is beside the steps:
[decision 14](decisions/0014-ahead.md)."""


def section(run: Run, megapixels: float, steps: int, load: str) -> str:
    """What docs/performance.md says."""
    columns = []
    for spans in (run.one, run.ten):
        found = stages(spans)
        columns.append({name: f"{1000 * median(values):,.1f}" for name, values in found.items() if values})
    lines = [f"| {words} | {columns[0].get(name, '')} | {columns[1].get(name, '')} |" for name, words in ROWS]
    idle = median(idle_seconds(run.ten))
    return PAGE_WORDS.format(
        cores=os.cpu_count(),
        load=load,
        megapixels=f"{megapixels:g}",
        steps=steps,
        rows="\n".join(lines),
        idle=f"{1000 * idle:.0f}",
    )


def write(run: Run, megapixels: float, steps: int, told: str) -> None:
    """Pictures and page."""
    for name, title, spans in (
        ("one", f"One streamed edit: {megapixels:g} megapixels, {steps} steps, previews", run.one),
        ("ten", f"Ten edits in a row: {megapixels:g} megapixels each", run.ten),
    ):
        bars = bars_of(spans)
        lanes = [lane for lane in LANES if any(bar.lane == lane for bar in bars)]
        (PICTURES / f"trace-{name}.svg").write_text(timeline(title, bars, lanes, COLOURS), encoding="utf-8")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--steps", type=int, default=12, help="of the streamed edit")
    parser.add_argument("--beside", type=Path, help="`src` of another version, measured in turns; writes no page")
    parser.add_argument("--rounds", type=int, default=3, help="of each version, with --beside")
    parser.add_argument("--step-seconds", type=float, help="of a pretended device, which takes no processor")
    options = parser.parse_args()
    pictures = [photo(options.megapixels, number) for number in range(2 + len(WORDS))]
    if options.beside is None:
        load = f"{os.getloadavg()[0]:.1f}"
        run = measured(ROOT / "src", pictures, options.steps, options.step_seconds)
        told = section(run, options.megapixels, options.steps, load)
        if options.step_seconds is None:
            write(run, options.megapixels, options.steps, told)
        print(told)
        return
    told: dict[str, list[dict[str, float]]] = {"beside": [], "here": []}
    for _ in range(options.rounds):
        for name, source in (("beside", options.beside), ("here", ROOT / "src")):
            run = measured(source, pictures, options.steps, options.step_seconds)
            told[name].append(run.seconds | {"device waits": median(idle_seconds(run.ten))})
            print(name, json.dumps({what: round(value, 3) for what, value in told[name][-1].items()}), flush=True)
    for what in told["here"][0]:
        ratios = [here[what] / other[what] for here, other in zip(told["here"], told["beside"], strict=True)]
        print(f"{what}: {median(ratios):.3f} of what it was")


if __name__ == "__main__":
    main()
