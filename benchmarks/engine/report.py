"""Results as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.engine.summary import Line, Spread, lines_of

HEAD = (
    "| edit | computed by | seconds per edit | per step | times faster | peak memory | the floor's share | difference |"
)
MIB = 2**20
GOALS_CPU = {"mini": 2.0, "mid": 1.3}
FLOOR_GOAL, TURBO_GOAL = 1.25, 4.0


def report_of(results: dict[str, Any]) -> str:
    """The tables, and what they have to say about the goals."""
    parts = [_machine(results)]
    if results["cases"]:
        parts.append(_table(results))
        parts.append(_energy(results))
    parts += [f"Not run: {why}." for why in results["not_run"].values()]
    parts += [_judged(case) for case in results["cases"] if case["dtype"] != "float32"]
    if results["cases"]:
        parts.append(_goals(results))
    return "\n\n".join(part for part in parts if part)


def disagreements(results: dict[str, Any]) -> list[str]:
    """Results that are not what they have to be, one per line."""
    found = []
    for case in results["cases"]:
        for edit in case["edits"]:
            for name, difference in edit["differences"].items():
                if difference["within"] is False:
                    found.append(
                        f"{case['name']}, {edit['label']}: {name} is {difference['latents']:.1e} and "
                        f"{difference['levels']} levels away from the published way"
                    )
        for name, within in case.get("judged", {}).get("within", {}).items():
            if not within:
                found.append(f"{case['name']}: {name} errs more than 1.5 times as much as the published way")
    return found


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    rounds = ", ".join(f"{case['title']}: {_rounds(case)}" for case in results["cases"])
    return (
        f"{machine['date']}, commit {machine['commit']}, {machine['cpu']} with {machine['cores']} cores{gpu}, torch "
        f"{machine['torch']}, {machine['threads']} thread{'s' if machine['threads'] > 1 else ''} for each side, load "
        f"{machine['load_at_start']:g} when it began. Both sides run whole edits (text, source into latents, steps, "
        f"picture) with the same weights, words and noise, in turns; medians over rounds ({rounds}). Seconds are "
        f"{_seconds(results)}."
    )


def _seconds(results: dict[str, Any]) -> str:
    kinds: dict[str, list[str]] = {}
    for case in results["cases"]:
        kinds.setdefault(case["seconds_are"], []).append(case["title"])
    if len(kinds) == 1:
        return f"those {next(iter(kinds))}"
    return " and ".join(f"those {kind} for the {', the '.join(titles)}" for kind, titles in kinds.items())


def _rounds(case: dict[str, Any]) -> int:
    return len(case["edits"][0]["rounds"]["official"])


def _table(results: dict[str, Any]) -> str:
    rows = [HEAD, "|---|---|---|---|---|---|---|---|"]
    for case in results["cases"]:
        for edit in case["edits"]:
            for line in lines_of(case, edit, results["machine"]["gpu"]):
                is_first = line.ratio is None
                rows.append(_row(f"{case['title']}: {edit['label']}" if is_first else "", line))
    return "\n".join(rows)


def _row(label: str, line: Line) -> str:
    cells = (
        label,
        line.title,
        figure(line.seconds.middle),
        figure(line.step_seconds),
        "1" if line.ratio is None else ratio(line.ratio),
        f"{line.peak_bytes / MIB:,.0f} MiB",
        _share(line),
        _difference(line),
    )
    return "| " + " | ".join(cells) + " |"


def figure(seconds: float) -> str:
    """Seconds with three digits."""
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def ratio(spread: Spread) -> str:
    """A ratio and how far the rounds lie apart."""
    return f"**{spread.middle:.2f}** ({spread.least:.2f}–{spread.most:.2f})"


def _share(line: Line) -> str:
    of_ceiling = "" if line.ceiling_share is None else f"; {line.ceiling_share:.0%} of 790 TFLOP/s"
    return f"{line.floor_share:.0%}{of_ceiling}"


def _difference(line: Line) -> str:
    if line.latents is None:
        return ""
    return f"{line.latents:.1e}, {line.levels} of 255"


def _energy(results: dict[str, Any]) -> str:
    told = []
    for case in results["cases"]:
        for edit in case["edits"]:
            lines = lines_of(case, edit, results["machine"]["gpu"])
            joules = [f"{line.title} {line.joules:,.0f} J" for line in lines if line.joules is not None]
            if joules:
                told.append(f"{case['title']}, {edit['label']}: {', '.join(joules)}")
    return f"Energy per edit: {'; '.join(told)}." if told else "Energy: not told by this machine."


def _judged(case: dict[str, Any]) -> str:
    if "judged" not in case:
        return f"{case['title']}: not compared with float32, which does not fit this card."
    judged = case["judged"]
    errors = ", ".join(f"{case['contestants'][name]['title']} {error:.1%}" for name, error in judged["errors"].items())
    return (
        f"{case['title']}, {judged['edit']}, distance from float32: {errors} (allowed: 1.5 times the official one's)."
    )


def _goals(results: dict[str, Any]) -> str:
    rows = ["| goal | measured | |", "|---|---|---|"]
    for case in results["cases"]:
        lines = [lines_of(case, edit, results["machine"]["gpu"]) for edit in case["edits"]]
        by_name = [{line.name: line for line in one} for one in lines]
        if case["name"] in GOALS_CPU:
            rows += _cpu_goals(case, by_name[0])
        elif case["device"] == "cuda":
            rows += _gpu_goals(by_name)
    return "\n".join(rows) if len(rows) > 2 else ""


def _cpu_goals(case: dict[str, Any], lines: dict[str, Line]) -> list[str]:
    exact, official, wanted = lines["exact"], lines["official"], GOALS_CPU[case["name"]]
    assert exact.ratio is not None
    goal = f"{case['title']}: at least {wanted:g} times faster"
    allowed = f"products and attention alone would allow {1 / official.floor_share:.2f} if none of them is left out"
    rows = [f"| {goal} | {exact.ratio.middle:.2f}; {allowed} | {_verdict(exact.ratio.middle >= wanted)} |"]
    if case["name"] == "mid":
        less = exact.peak_bytes < official.peak_bytes
        rows.append(
            f"| {case['title']}: less peak memory | {exact.peak_bytes / MIB:,.0f} beside "
            f"{official.peak_bytes / MIB:,.0f} MiB | {_verdict(less)} |"
        )
    return rows


def _gpu_goals(edits: list[dict[str, Line]]) -> list[str]:
    rows = []
    for lines in edits:
        exact, turbo = lines["exact"], lines.get("turbo")
        share = exact.ceiling_share if exact.ceiling_share is not None else exact.floor_share
        rows.append(
            f"| exact: at most {FLOOR_GOAL:g} times the floor | {1 / share:.2f} | {_verdict(1 / share <= FLOOR_GOAL)} |"
        )
        if turbo is not None and turbo.ratio is not None:
            rows.append(
                f"| turbo: at most a quarter of the official time | 1/{turbo.ratio.middle:.2f} | "
                f"{_verdict(turbo.ratio.middle >= TURBO_GOAL)} |"
            )
    return rows


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"
