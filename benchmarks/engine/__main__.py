"""Our engine beside the published way of computing.

    make bench-engine                                     all cases that this machine can run, onto the page
    python -m benchmarks.engine --cases mini --quick      one case in a minute, on the terminal alone

Both sides run whole edits with the same weights, words and noise, each in a process of its own, in turns; results are
compared. One JSON file per run goes into runs/; a full run also writes the tables and plots of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from benchmarks.engine.cases import CASES, STANDARD
from benchmarks.engine.measuring import measured
from benchmarks.engine.page import write_page
from benchmarks.engine.report import disagreements, report_of

ROOT = Path(__file__).parents[2]


def facts_of_machine(threads: int) -> dict[str, Any]:
    """What numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - wherever git is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip() or None,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "threads": threads,
    }


def run(names: list[str], file: Path, *, quick: bool, threads: int) -> dict[str, Any]:
    """Measure the cases of these names; those that need what is not here say so. ``file`` is written after each.

    Raises:
        WorkerFailed: a contestant could not do it.
    """
    results: dict[str, Any] = {"machine": facts_of_machine(threads), "quick": quick, "cases": [], "not_run": {}}
    for name in names:
        case = CASES[name]
        if case.needs_gpu and not torch.cuda.is_available():
            results["not_run"][name] = f"{case.title}: needs a CUDA device, which this machine does not have"
            continue
        device = "cuda" if case.needs_gpu else "cpu"
        results["cases"].append(measured(case.shortened() if quick else case, device=device, threads=threads, say=_say))
        _keep(results, file)  # a case of half an hour is not lost with the next one
    _keep(results, file)
    return results


def _keep(results: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(results, indent=1) + "\n")


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, write; 1 where results are not what the published way computes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(STANDARD), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and nothing about growth")
    parser.add_argument("--threads", type=int, default=1, help="for each side; more than free cores is slower")
    parser.add_argument("--results", type=Path, default=ROOT / "runs", help="folder of the JSON file")
    parser.add_argument("--from", dest="given", type=Path, help="a JSON file of an earlier run: nothing is measured")
    parser.add_argument("--page", type=Path, help="write here; without it, docs/performance.md after a full run")
    options = parser.parse_args()
    names = options.cases.split(",")
    if unknown := set(names) - CASES.keys():
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if options.given:
        results = json.loads(options.given.read_text())
    else:
        options.results.mkdir(parents=True, exist_ok=True)
        file = options.results / f"bench-engine-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
        results = run(names, file, quick=options.quick, threads=options.threads)
        _say(f"written to {file}")
    print(report_of(results))
    is_full = not options.quick and tuple(names) == STANDARD
    page = options.page or (ROOT / "docs" / "performance.md" if is_full or options.given else None)
    if page:
        write_page(page, results)
    for line in (found := disagreements(results)):
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
