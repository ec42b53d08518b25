"""Every answer carries a request id, also those that no job stands behind; so does every log line on the way to it."""

from __future__ import annotations

import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidream_edit.api import wire
from hidream_edit.telemetry.logs import about


class RequestIds:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request_id = str(uuid.uuid4())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault(wire.REQUEST_ID, request_id)
            await send(message)

        with about(request_id=request_id):
            await self._app(scope, receive, send_with_id)
