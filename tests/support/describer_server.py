"""A server on loopback that answers as a vision-language model behind an OpenAI-compatible address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LINES = "A dark square.\nMake the square white.\nA white square."


class FakeServer(ThreadingHTTPServer):
    """Answers every question with ``answer`` and ``status``, and keeps the last request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.answer: object = completion(LINES)
        self.status = 200
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class FakeHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, FakeServer)
        server.path, server.headers = self.path, dict(self.headers)
        server.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(server.answer).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def completion(text: object) -> dict[str, object]:
    return {"choices": [{"message": {"content": text}}]}


@contextmanager
def describer_server() -> Iterator[FakeServer]:
    """A running server."""
    fake = FakeServer()
    thread = threading.Thread(target=fake.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield fake
    finally:
        fake.shutdown()
        thread.join()
        fake.server_close()
