"""A quality may be asked for at every door, in the body or in a header; a wrong one is told and never passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import msgpack
import pytest
from tests.api.conftest import APP, Server, an_input
from websockets.sync.client import connect

from hidream_edit.api import wire_input
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.quality import Quality

ASKS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "header": ({"x-hidream-quality": "balanced"}, {}),
    "hint": ({"x-fal-runner-hint": "quality=balanced"}, {}),
    "field": ({}, {"hidream_quality": "balanced"}),
    "field before header": ({"x-hidream-quality": "turbo"}, {"hidream_quality": "balanced"}),
    "header before hint": ({"x-hidream-quality": "balanced", "x-fal-runner-hint": "quality=turbo"}, {}),
}
WRONG: dict[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "header": ({"x-hidream-quality": "best"}, {}, ["header", "x-hidream-quality"]),
    "empty header": ({"x-hidream-quality": ""}, {}, ["header", "x-hidream-quality"]),
    "hint": ({"x-fal-runner-hint": "quality=best"}, {}, ["header", "x-fal-runner-hint"]),
    "field": ({}, {"hidream_quality": "best"}, ["body", "hidream_quality"]),
    "header beside a field": (
        {"x-hidream-quality": "best"},
        {"hidream_quality": "turbo"},
        ["header", "x-hidream-quality"],
    ),
}
Answer = Callable[[Server, dict[str, str], dict[str, Any]], httpx.Response]


def run(server: Server, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return server.client.post(APP, json=body, headers=headers)


def queued(server: Server, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    submitted = server.client.post(f"/queue{APP}", json=body, headers=headers)
    assert submitted.status_code == 200
    return server.result(submitted.json()["request_id"])


def proxied(server: Server, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    target = {"x-fal-target-url": f"https://fal.run{APP}"}
    return server.client.post("/api/fal/proxy", json=body, headers=headers | target)


def streamed(server: Server, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return server.client.post(f"{APP}/stream", json=body, headers=headers)


DOORS = {"run": run, "queue": queued, "proxy": proxied}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("ask", ASKS)
def test_it_is_obeyed_at_every_door_and_told_in_body_and_header(ask: str, door: str, server: Server) -> None:
    headers, fields = ASKS[ask]
    answer = DOORS[door](server, headers, an_input(**fields))
    assert answer.headers["x-hidream-quality"] == "balanced"
    told = answer.json()["quality"]
    assert (told["preset"], told["steps"], told["steps_computed"]) == ("balanced", 3, 3)


@pytest.mark.parametrize("ask", ASKS)
def test_a_stream_takes_it_too(ask: str, server: Server) -> None:
    headers, fields = ASKS[ask]
    answer = streamed(server, headers, an_input(**fields))
    assert json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))["quality"]["preset"] == "balanced"


@pytest.mark.parametrize("ask", ASKS)
def test_a_realtime_connection_takes_it_from_its_handshake_and_from_each_message(ask: str, server: Server) -> None:
    headers, fields = ASKS[ask]
    url = f"ws://127.0.0.1:{server.port}{APP}/realtime"
    with connect(url, proxy=None, additional_headers=headers) as socket:
        socket.send(msgpack.packb(an_input(**fields)))
        assert msgpack.unpackb(socket.recv())["quality"]["preset"] == "balanced"


@pytest.mark.parametrize("door", [*DOORS, "stream"])
@pytest.mark.parametrize("wrong", WRONG)
def test_an_unknown_one_is_refused_at_every_door(wrong: str, door: str, server: Server) -> None:
    headers, fields, place = WRONG[wrong]
    answer = {**DOORS, "stream": streamed}[door](server, headers, an_input(**fields))
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert (detail["loc"], detail["type"]) == (place, "literal_error")
    assert "balanced" in detail["ctx"]["expected"]
    assert answer.headers["x-fal-billable-units"] == "0"


@pytest.mark.parametrize("wrong", WRONG)
def test_an_unknown_one_is_refused_over_a_socket(wrong: str, server: Server) -> None:
    headers, fields, _ = WRONG[wrong]
    url = f"ws://127.0.0.1:{server.port}{APP}/realtime"
    with connect(url, proxy=None, additional_headers=headers) as socket:
        socket.send(msgpack.packb(an_input(**fields)))
        assert json.loads(socket.recv())["error"] == "INVALID_INPUT"


def test_other_hints_belong_to_others(server: Server) -> None:
    answer = run(server, {"x-fal-runner-hint": "turbo"}, an_input())
    assert answer.headers["x-hidream-quality"] == "exact"


def test_an_exact_answer_has_the_published_fields_only(server: Server) -> None:
    answer = run(server, {"x-hidream-quality": "exact"}, an_input())
    assert answer.json().keys() == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert answer.headers["x-hidream-quality"] == "exact"


def test_a_browser_may_read_the_header(server: Server) -> None:
    answer = server.client.options(
        APP, headers={"origin": "https://a.example", "access-control-request-method": "POST"} | dict.fromkeys(
            ["access-control-request-headers"], "x-hidream-quality"
        )
    )  # fmt: skip
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-headers"] in ("*", "x-hidream-quality")
    shown = run(server, {"origin": "https://a.example"}, an_input()).headers["access-control-expose-headers"]
    assert "x-hidream-quality" in shown


def test_the_log_says_what_was_done_without(server: Server) -> None:
    body = server.client.post(f"/queue{APP}", json=an_input(hidream_quality="turbo")).json()
    assert server.result(body["request_id"]).status_code == 200
    logs = server.client.get(f"{body['status_url']}?logs=1").json()["logs"]
    assert "quality turbo: 3 of 3 steps and 3 of 3 branches were computed anew" in [line["message"] for line in logs]


def test_the_words_of_the_wire_are_those_of_the_engine() -> None:
    for quality in Quality:
        read = wire_input.read_input({"image_url": "data:,", "hidream_quality": quality.value})
        assert read.edit_input.quality is quality


def test_a_job_of_before_there_was_a_choice_is_still_read() -> None:
    stored = wire_input.read_input({"image_url": "data:,"}).as_json()
    del stored["edit_input"]["quality"]
    assert EditRequest.from_json(stored).edit_input.quality is None
    asked = wire_input.read_input({"image_url": "data:,"}, {"x-hidream-quality": "turbo"})
    assert EditRequest.from_json(json.loads(json.dumps(asked.as_json()))) == asked
