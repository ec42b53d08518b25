"""A whole server in one process, and one that exists in memory and answers what a test tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.api.conftest import Server, idle_server, picture_bytes, server, slow_server

from hidream_edit.client import Client

__all__ = ["idle_server", "server", "slow_server"]

KEY = "0123456789abcdef:" + "s" * 40
URL = "http://edits.example"
REQUEST_ID = "6b1f0c1e-0000-4000-8000-000000000001"
Reply = httpx.Response | Exception


@pytest.fixture(autouse=True)
def no_server_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HIDREAM_EDIT_URL", "HIDREAM_EDIT_KEY", "FAL_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as made:
        yield made


@pytest.fixture
def slow_client(slow_server: Server) -> Iterator[Client]:
    with Client(slow_server.url) as made:
        yield made


@dataclass
class Remote:
    """Answers each kind of call well, unless a test has put other replies before that."""

    before: dict[str, list[Reply]] = field(default_factory=dict)
    calls: list[tuple[str, httpx.Request]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    now: float = 0.0

    def client(self, **options: Any) -> Client:
        transport = httpx.MockTransport(self.answer)
        options = {"key": KEY, "chance": lambda: 0.5, "clock": lambda: self.now} | options
        return Client(URL, transport=transport, sleep=self.sleep, **options)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def named(self, name: str) -> list[httpx.Request]:
        return [request for called, request in self.calls if called == name]

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = name_of(request)
        self.calls.append((name, request))
        if self.before.get(name):
            reply = self.before[name].pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply
        return GOOD[name]()


def name_of(request: httpx.Request) -> str:
    path = request.url.path
    for end, name in (("/initiate", "initiate"), ("/status", "status"), ("/cancel", "cancel"), ("/stream", "stream")):
        if path.endswith(end):
            return name
    if request.method == "PUT":
        return "put"
    if path.startswith("/files/"):
        return "file"
    return "submit" if request.method == "POST" else "result"


def answer(code: int = 200, headers: dict[str, str] | None = None, /, **body: Any) -> httpx.Response:
    return httpx.Response(code, headers=headers, json=body)


def output(url: str = f"{URL}/files/b/1/image.png") -> dict[str, Any]:
    image = {"url": url, "width": 6, "height": 4, "content_type": "image/png"}
    return {
        "images": [image],
        "timings": {"inference": 1.5},
        "seed": 7,
        "has_nsfw_concepts": [False],
        "prompt": "night",
    }


def line(message: str, level: str = "INFO") -> dict[str, str]:
    return {"timestamp": "2026-01-01T00:00:00+00:00", "level": level, "message": message}


def sse(*events: dict[str, Any]) -> httpx.Response:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return httpx.Response(200, headers={"x-fal-request-id": REQUEST_ID}, text=": ping\n\n" + text)


URLS = {name: f"{URL}/{name}" for name in ("status_url", "response_url", "cancel_url")}
GOOD: dict[str, Callable[[], httpx.Response]] = {
    "initiate": lambda: answer(upload_url=f"{URL}/storage/upload/1?token=t", file_url=f"{URL}/files/b/0/file.png"),
    "put": lambda: answer(file_url=f"{URL}/files/b/0/file.png"),
    "submit": lambda: answer(request_id=REQUEST_ID, status="IN_QUEUE", queue_position=0, **URLS),
    "status": lambda: completed(),
    "result": lambda: answer(**output()),
    "file": lambda: httpx.Response(200, content=picture_bytes((1, 2, 3))),
    "cancel": lambda: answer(202, status="CANCELLATION_REQUESTED"),
    "stream": lambda: sse(output()),
}


def completed(*logs: dict[str, str], **error: str) -> httpx.Response:
    return httpx.Response(200, json={"status": "COMPLETED", "logs": list(logs), **error})


def queued(position: int) -> httpx.Response:
    return httpx.Response(202, json={"status": "IN_QUEUE", "queue_position": position, "logs": []})


def running(*logs: dict[str, str]) -> httpx.Response:
    return httpx.Response(202, json={"status": "IN_PROGRESS", "logs": list(logs)})


@pytest.fixture
def remote() -> Remote:
    return Remote()
