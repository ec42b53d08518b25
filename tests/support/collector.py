"""A collector of traces: takes OTLP over HTTP and keeps the spans."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collected(NamedTuple):
    name: str
    trace: str
    id: str
    parent: str
    process: str
    began: float  # Unix seconds
    seconds: float
    facts: dict[str, Any]


class Collector:
    """Listens on loopback; while ``is_mute`` it takes calls and answers none."""

    def __init__(self, *, is_mute: bool = False) -> None:
        self.spans: list[Collected] = []
        self.calls, self._go_on = 0, threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.calls += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if is_mute:
                    collector._go_on.wait()
                    return
                assert self.path == "/v1/traces"
                collector.spans.extend(spans_of(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def one(self, name: str) -> Collected:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def spans_of(body: bytes) -> list[Collected]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Collected(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _values(resource.resource.attributes)["hidream_edit.process"],
            span.start_time_unix_nano / 1e9,
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            _values(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
