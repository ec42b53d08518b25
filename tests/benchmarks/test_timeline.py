"""The picture of a trace."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from benchmarks.served import bars_of, idle_seconds, stages
from benchmarks.timeline import Bar, timeline
from benchmarks.waits import waits
from tests.support.collector import Collected

SVG = "{http://www.w3.org/2000/svg}"


def span(name: str, began: float, seconds: float, parent: str = "", request: str | None = None) -> Collected:
    facts = {} if request is None else {"hidream_edit.request_id": request}
    return Collected(name, "trace", f"{name} {began}", parent, "runner", began, seconds, facts)


def two_edits() -> list[Collected]:
    submits = [span("submit", n, 0.1, request=name) for n, name in enumerate("ab")]
    attempts = [span("attempt", 10 + 10 * n, 9, request=name) for n, name in enumerate("ab")]
    ahead = span("read ahead", 15, 1, request="b")
    return [
        *submits, *attempts, ahead,
        span("decode", 10, 1, attempts[0].id), span("decode", 15, 0.5, ahead.id),
        span("edit", 11, 6, attempts[0].id), span("edit", 20, 6, attempts[1].id),
        span("engine: begin", 11, 1), span("engine: step", 12, 2),
        span("finish", 17, 5, attempts[0].id), span("engine: picture, beside", 17, 4),
        span("engine: begin", 20, 1), span("engine: step", 21, 2),
    ]  # fmt: skip


def test_each_span_is_where_its_work_was_done_and_names_its_request() -> None:
    seen = [(bar.lane, bar.kind, bar.began, bar.label) for bar in bars_of(two_edits())]
    assert ("device", "source", 10, "1") in seen
    assert ("reader", "source", 15, "2") in seen
    assert [label for _, kind, _, label in seen if kind == "text, latents in"] == ["1", "2"]
    assert ("beside", "source's size, detail", 17, "1") in seen
    assert [label for _, kind, _, label in seen if kind == "step"] == ["", ""]


def test_of_two_pictures_that_are_finished_at_once_each_names_its_request() -> None:
    attempts = [span("attempt", 10 + n, 9, request=name) for n, name in enumerate("ab")]
    submits = [span("submit", n, 0.1, request=name) for n, name in enumerate("ab")]
    finishes = [span("finish", began, 5, attempt.id) for began, attempt in zip((17, 19), attempts, strict=True)]
    pictures = [span("engine: picture, beside", began + 0.001, 4) for began in (17, 19)]
    seen = [bar.label for bar in bars_of([*submits, *attempts, *finishes, *pictures]) if "detail" in bar.kind]
    assert seen == ["1", "2"]


def test_the_time_between_two_edits_is_the_devices_wait() -> None:
    assert idle_seconds(two_edits()) == [3]


def test_that_wait_is_for_the_claim_and_then_for_the_source() -> None:
    assert waits(two_edits()) == [(3, 0)]
    late = [one if one.name != "attempt" or one.began != 20 else one._replace(began=19) for one in two_edits()]
    assert waits(late) == [(2, 1)]


def test_what_is_read_ahead_is_told_apart() -> None:
    found = stages(two_edits())
    assert (found["decode"], found["read ahead > decode"]) == ([1], [0.5])


def test_bars_that_overlap_stand_in_rows_of_their_own_and_say_how_long_they_took() -> None:
    bars = [Bar("a", "x", 0, 2, "one"), Bar("a", "x", 1, 3), Bar("a", "x", 2, 3), Bar("b", "x", 0, 3)]
    picture = ET.fromstring(timeline("a < b", bars, ["a", "b"], {"x": "#123456"}))  # noqa: S314 - our own
    drawn = {group.findtext(f"{SVG}title"): group.find(f"{SVG}rect") for group in picture.iter(f"{SVG}g")}
    assert set(drawn) == {"one: 2000.0 ms", "x: 2000.0 ms", "x: 1000.0 ms", "x: 3000.0 ms"}
    rows = [float(rect.attrib["y"]) for rect in drawn.values() if rect is not None]
    assert len(set(rows)) == 3
    assert picture.findtext(f"{SVG}title") == "a < b"
