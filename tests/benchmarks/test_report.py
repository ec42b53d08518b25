"""Tables and plots out of results, with results made up for the purpose."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from benchmarks.engine.page import BEGIN, END, write_page
from benchmarks.engine.plots import plot_of_edits, plot_of_growth
from benchmarks.engine.report import disagreements, report_of
from benchmarks.engine.summary import Spread, lines_of
from benchmarks.engine.svg import round_top

TITLES = {"official": "the official method", "exact": "ours, exact", "turbo": "ours, turbo"}


def answers(*seconds: float, peak: int = 2**30) -> list[dict[str, Any]]:
    return [
        {"seconds": one, "wall_seconds": one, "step_seconds": [one / 4], "peak_bytes": peak, "joules": None}
        for one in seconds
    ]


@pytest.fixture
def results() -> dict[str, Any]:
    rounds = {
        "official": answers(8.0, 9.0, 10.0),
        "exact": answers(4.0, 3.0, 4.0, peak=2**29),
        "turbo": answers(1.0, 2.0, 2.0),
        "floor": [{"flops": {"experts": 10**12}, "seconds": {"experts": 0.5, "attention": 0.25}}] * 3,
    }
    exact = {"latents": 2e-6, "levels": 0, "within": True}
    turbo = {"latents": 0.1, "levels": 30, "within": None}
    points = [{"at": at, "seconds": dict.fromkeys(TITLES, at / 10)} for at in (1.0, 2.0, 3.0)]
    return {
        "machine": {
            "date": "2026-01-02", "commit": "abc", "cpu": "a CPU", "cores": 2, "load_at_start": 0.5, "gpu": None,
            "torch": "2", "threads": 1,
        },
        "quick": False,
        "not_run": {"real": "real size: needs a CUDA device"},
        "cases": [
            {
                "name": "mini",
                "title": "mini model",
                "device": "cpu",
                "dtype": "float32",
                "seconds_are": "of the processor",
                "contestants": {
                    name: {"title": title, "is_exact": name != "turbo", "peak_bytes_loading": 1}
                    for name, title in TITLES.items()
                },
                "edits": [
                    {
                        "label": "4 steps",
                        "steps": 4,
                        "rounds": rounds,
                        "differences": {"exact": exact, "turbo": turbo},
                    }
                ],
                "sweeps": [
                    {"title": "branches", "axis": "branches", "counts_steps": True, "points": points},
                    {"title": "steps", "axis": "steps", "counts_steps": False, "points": points},
                ],
            }
        ],
    }  # fmt: skip


def test_ratios_are_made_round_by_round(results: dict[str, Any]) -> None:
    case = results["cases"][0]
    official, exact, _ = lines_of(case, case["edits"][0], None)
    assert official.ratio is None
    assert exact.ratio == Spread(2.5, 2.0, 3.0)
    assert exact.seconds.middle == 4.0
    assert exact.floor_share == pytest.approx(4 * 0.75 / 4.0)
    assert exact.ceiling_share is None


def test_the_ceiling_counts_on_the_card_that_it_is_known_for(results: dict[str, Any]) -> None:
    case = results["cases"][0] | {"device": "cuda"}
    line = lines_of(case, case["edits"][0], "NVIDIA H200")[1]
    assert line.ceiling_share == pytest.approx(4 * 1e12 / 790e12 / 4.0)
    assert lines_of(case, case["edits"][0], "NVIDIA L4")[1].ceiling_share is None


def test_the_table_has_a_line_for_each_contestant(results: dict[str, Any]) -> None:
    report = report_of(results)
    assert "| ours, exact | 4 | 1 | **2.50** (2.00–3.00) | 512 MiB | 75% | 2.0e-06, 0 of 255 |" in report
    assert "| ours, turbo |" in report
    assert "Not run: real size: needs a CUDA device." in report
    assert "Energy: not told by this machine." in report
    assert "| met |" in report


def test_energy_is_told_where_it_was_measured(results: dict[str, Any]) -> None:
    for answer in results["cases"][0]["edits"][0]["rounds"]["exact"]:
        answer["joules"] = 1234.0
    assert "ours, exact 1,234 J" in report_of(results)


def test_goals_of_a_gpu_are_judged_there(results: dict[str, Any]) -> None:
    results["cases"][0] |= {"device": "cuda", "name": "real"}
    report = report_of(results)
    assert "| exact: at most 1.25 times the floor | 1.33 | missed |" in report
    assert "| turbo: at most a quarter of the official time | 1/5.00 | met |" in report


def test_only_what_was_promised_can_disagree(results: dict[str, Any]) -> None:
    assert disagreements(results) == []
    wrong = deepcopy(results)
    wrong["cases"][0]["edits"][0]["differences"]["exact"] |= {"latents": 0.5, "within": False}
    assert len(disagreements(wrong)) == 1
    results["cases"][0]["judged"] = {"within": {"exact": False}}
    assert "1.5 times" in disagreements(results)[0]


def test_bfloat16_that_was_not_judged_is_told(results: dict[str, Any]) -> None:
    results["cases"][0]["dtype"] = "bfloat16"
    assert "not compared with float32" in report_of(results)


def test_plots_are_drawings_that_name_every_contestant(results: dict[str, Any]) -> None:
    for drawn in (plot_of_edits(results), plot_of_growth(results)):
        assert drawn is not None
        elements = ET.fromstring(drawn).iter()  # noqa: S314 - our own
        words = [element.text for element in elements if element.tag.endswith("text")]
        assert set(TITLES.values()) <= set(words)


def test_without_results_nothing_is_drawn(results: dict[str, Any]) -> None:
    results["cases"] = []
    assert plot_of_edits(results) is None
    assert plot_of_growth(results) is None


def test_the_page_keeps_what_stands_around(results: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nbefore this run\n{END}\n\nafter\n")
    for _ in range(2):
        write_page(page, results)
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "before this run" not in text
    assert text.count("images/engine-edits.svg") == 1
    assert {file.name for file in (tmp_path / "images").iterdir()} == {"engine-edits.svg", "engine-growth.svg"}


def test_a_page_without_marks_is_left_alone(results: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_page(page, results)
    assert page.read_text() == "mine"


@pytest.mark.parametrize(("value", "top"), [(0.03, 0.05), (0.7, 1), (1, 1), (1.1, 2), (21, 50), (500, 500)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert round_top(value) == pytest.approx(top)
