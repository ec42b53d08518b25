"""How long the device waits for what is around it: ten served edits in a row, by size and format.

    python -m benchmarks.waits
    python -m benchmarks.waits --step-seconds 0.1 --beside FOLDER

Between two edits of a full line, the device waits for the runner to claim the next job, which it does when it may have
one more picture in hand, and then for that job's source. The table tells both. ``--step-seconds`` and ``--beside`` are
those of `served.py`; with the latter both servers live side by side, one of them busy at a time, and take each row in
turns. ``--saving FINISH ENCODE``, in seconds, leaves the processor out of a picture's end, too: who waits for whom
where cores are to spare.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from benchmarks.served import LATE_SECONDS, ROOT, WORDS, photo, serving
from tests.support.collector import Collected, Collector

from hidream_edit.client import Client

Format = Literal["png", "jpeg"]
WARM_UP = 3  # edits, before anything is measured


class Wait(NamedTuple):
    """Seconds between two edits."""

    until_claimed: float
    until_begun: float  # from the claim: the source is fetched and decoded, where that was not done ahead


@dataclass(frozen=True, slots=True)
class Row:
    """Ten edits in a row."""

    seconds: float  # as their caller saw it
    waits: list[Wait]
    finish: float  # median of each
    encode: float
    store: float


@dataclass(frozen=True, slots=True)
class Server:
    """One version, ready."""

    client: Client
    collector: Collector

    def row(self, pictures: Sequence[bytes], output_format: Format) -> Row:
        """Ten uploads, then ten edits that wait in the line."""
        uploads = [self.client.upload(picture) for picture in pictures]
        self.collector.spans.clear()
        began = time.perf_counter()
        waiting = [
            self.client.submit(url, f"make it {word}", seed=3, output_format=output_format)
            for url, word in zip(uploads, WORDS, strict=True)
        ]
        for submitted in waiting:
            self.client.result(submitted)
        seconds = time.perf_counter() - began
        time.sleep(LATE_SECONDS)
        spans = list(self.collector.spans)
        each = (median(span.seconds for span in spans if span.name == name) for name in ("finish", "encode", "store"))
        return Row(seconds, waits(spans), *each)


def waits(spans: Sequence[Collected]) -> list[Wait]:
    """Between each edit and the next."""
    claimed = {span.id: span.began for span in spans if span.name == "attempt"}
    edits = sorted((span for span in spans if span.name == "edit"), key=lambda span: span.began)
    return [
        Wait(claimed[later.parent] - (sooner.began + sooner.seconds), later.began - claimed[later.parent])
        for sooner, later in itertools.pairwise(edits)
    ]


@contextlib.contextmanager
def ready(source: Path, step_seconds: float | None) -> Iterator[Server]:
    """A server that has made its first edits; its processes run the package in ``source``."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Collector() as collector,
        serving(source, Path(folder), collector, step_seconds) as url,
        Client(url) as client,
    ):
        for number in range(WARM_UP):
            client.edit(photo(0.6), f"warm up {number}", seed=1)
        yield Server(client, collector)


COLUMNS = (
    "version", "megapixels", "format", "ten edits, s", "device waits, s", "to claim", "for the source",
    "finish, ms", "encode, ms", "store, ms",
)  # fmt: skip


def told(version: str, megapixels: float, output_format: Format, rows: Sequence[Row]) -> str:
    """A line of the table: medians over rounds."""
    claims, sources = ([sum(wait[part] for wait in row.waits) for row in rows] for part in (0, 1))
    total = [claim + source for claim, source in zip(claims, sources, strict=True)]
    times = (median(row.seconds for row in rows), *map(median, (total, claims, sources)))
    small = (1000 * median(getattr(row, part) for row in rows) for part in ("finish", "encode", "store"))
    numbers = [f"{value:.2f}" for value in times] + [f"{value:.0f}" for value in small]
    return f"| {version} | {megapixels:g} | {output_format} | {' | '.join(numbers)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--megapixels", type=float, nargs="+", default=(0.6, 3.0, 12.0))
    parser.add_argument("--formats", nargs="+", choices=("jpeg", "png"), default=("jpeg", "png"))
    parser.add_argument("--beside", type=Path, help="`src` of another version, measured in turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step-seconds", type=float, help="of a pretended device, which takes no processor")
    parser.add_argument("--saving", type=float, nargs=2, help="seconds of a pretended finish and encode")
    options = parser.parse_args()
    if options.saving is not None:
        os.environ["PRETEND_SAVING"] = ",".join(map(str, options.saving))
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|",
        flush=True,
    )
    with contextlib.ExitStack() as stack:
        servers = {"here": stack.enter_context(ready(ROOT / "src", options.step_seconds))}
        if options.beside is not None:
            servers = {"beside": stack.enter_context(ready(options.beside, options.step_seconds))} | servers
        for megapixels, output_format in itertools.product(options.megapixels, options.formats):
            pictures = [photo(megapixels, number) for number in range(len(WORDS))]
            rows: dict[str, list[Row]] = {version: [] for version in servers}
            for _ in range(options.rounds):
                for version, server in servers.items():
                    rows[version].append(server.row(pictures, output_format))
            for version, of_version in rows.items():
                print(told(version, megapixels, output_format, of_version), flush=True)
            if options.beside is not None:
                ratios = [
                    here.seconds / other.seconds for here, other in zip(rows["here"], rows["beside"], strict=True)
                ]
                print(
                    f"|  | | | {median(ratios):.2f} of what it was ({min(ratios):.2f}–{max(ratios):.2f}) |", flush=True
                )


if __name__ == "__main__":
    main()
