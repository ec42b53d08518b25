"""Server-sent events: of a status, and of an edit with its previews."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest
from tests.api.conftest import APP, Server, an_input

from hidream_edit.domain.job import JobState

REQUESTS = f"/queue{APP}/requests"


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line.startswith("data: ")]


def test_the_status_stream_tells_each_log_line_once_and_ends_completed(slow_server: Server) -> None:
    body = slow_server.submit(num_inference_steps=6)
    with slow_server.client.stream("GET", f"{body['status_url']}/stream?logs=1") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response)
    assert events[-1]["status"] == "COMPLETED"
    messages = [entry["message"] for event in events for entry in event["logs"]]
    assert [message for message in messages if message.startswith("step")] == [f"step {n} of 6" for n in range(1, 7)]
    assert len(events) > 3


def test_a_stream_shows_previews_and_ends_with_the_result_of_the_queue(slow_server: Server) -> None:
    with slow_server.client.stream("POST", f"{APP}/stream", json=an_input(num_inference_steps=25)) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        request_id = response.headers["x-fal-request-id"]
        events = events_of(response)
    assert len(events) >= 2
    assert all(event["images"][0]["url"].startswith("data:image/jpeg;base64,") for event in events[:-1])
    assert events[-1] == slow_server.result(request_id).json()


def test_events_are_ascii_whatever_the_words(slow_server: Server) -> None:
    fields = {"num_inference_steps": 2, "edit_instruction": "mach es zur Nacht ☾"}
    response = slow_server.client.post(f"{APP}/stream", json=an_input(**fields))
    assert response.content.isascii()
    assert json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))["prompt"].endswith("☾")


def test_a_failure_on_a_stream_breaks_it_off_so_that_nobody_takes_it_for_a_result(server: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.client.post(f"{APP}/stream", json=an_input(edit_instruction="fail"))
    with server.client.stream("POST", f"{APP}/stream", json=an_input(edit_instruction="fail")) as response:
        first = next(line for line in response.iter_lines() if line.startswith("data: "))
    assert json.loads(first.removeprefix("data: ")).keys() == {"error"}


def test_a_reader_who_reads_nothing_slows_neither_the_runner_nor_anybody_else(slow_server: Server) -> None:
    body = json.dumps(an_input(num_inference_steps=30)).encode()
    head = f"POST {APP}/stream HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        reader.connect(("127.0.0.1", slow_server.port))
        reader.sendall(head + body)
        deadline = time.monotonic() + 15
        while not (jobs := slow_server.store.recent(1)) or jobs[0].state is not JobState.COMPLETED:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (job,) = jobs
        assert job.finished_at is not None
        assert job.started_at is not None
        assert job.finished_at - job.started_at < 30 * 0.03 + 3
        assert slow_server.client.get("/health").status_code == 200
        events = b""
        while b'"images":[{"url":"http' not in events:
            events += reader.recv(65536)


def test_leaving_a_stream_cancels_the_job(slow_server: Server) -> None:
    with slow_server.client.stream("POST", f"{APP}/stream", json=an_input()) as response:
        request_id = response.headers["x-fal-request-id"]
        next(response.iter_lines())
    assert slow_server.result(request_id).status_code == 499


def test_comments_keep_an_idle_stream_open(idle_server: Server) -> None:
    body = idle_server.submit()
    with idle_server.client.stream("GET", f"{body['status_url']}/stream") as response:
        lines = response.iter_lines()
        assert any(line.startswith(": ping") for line, _ in zip(lines, range(12), strict=False))
