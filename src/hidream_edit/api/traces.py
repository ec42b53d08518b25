"""A span around each request that changes something. Reading is left out: polls would bury what is looked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidream_edit.api import wire
from hidream_edit.telemetry.traces import Tracer, traceparent_of

HEADER = "traceparent"
CHANGING = frozenset({"POST", "PUT"})
_PLACE = "traceparent"


class Traces:
    """ASGI middleware, the innermost: it sees which route was taken. ``paths`` are those of the routes, by endpoint."""

    def __init__(self, app: ASGIApp, tracer: Tracer, paths: Mapping[Callable[..., Any], str]) -> None:
        self._app, self._tracer, self._paths = app, tracer, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGING:
            await self._app(scope, receive, send)
            return
        parent = traceparent_of(Headers(scope=scope).get(HEADER))
        with self._tracer.begin("request", parent, kind="server", method=scope["method"]) as span:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.note(status=message["status"])
                    if message["status"] >= 500:
                        span.failed(str(message["status"]))
                    if request_id := Headers(raw=message["headers"]).get(wire.REQUEST_ID):
                        span.note(request_id=request_id)
                await send(message)

            scope["state"][_PLACE] = span.traceparent
            try:
                await self._app(scope, receive, send_and_note)
            finally:
                if path := self._paths.get(scope.get("endpoint", self)):
                    span.note(route=path)


def place_of(connection: HTTPConnection) -> str | None:
    """Where the spans of a request belong: below its own, or else where its caller says."""
    place: str | None = connection.scope["state"].get(_PLACE)
    return place or traceparent_of(connection.headers.get(HEADER))
