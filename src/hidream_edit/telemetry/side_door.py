"""A small HTTP server beside a process that has no other: is it alive, does it work, what does it count."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from hidream_edit.telemetry.meters import CONTENT_TYPE, Meters

READY = "ready"
SECONDS_MAX = 10.0


class SideDoor:
    """Answers ``/health/live``, ``/health/ready`` and ``/metrics``; ``status`` says what the process is doing.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, meters: Meters, status: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = SECONDS_MAX  # for a caller who says nothing

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE, meters.text())
                elif self.path in ("/health/live", "/health/ready"):
                    word = status()
                    is_fine = self.path == "/health/live" or word == READY
                    self._answer(200 if is_fine else 503, "application/json", json.dumps({"status": word}).encode())
                else:
                    self._answer(404, "text/plain", b"not found")

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Probes are not worth a line."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="side-door", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
