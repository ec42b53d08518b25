"""Three ways in, one set of routes: by path, by the host's name, and through a proxy address.

The hosted service spreads its routes over several hosts. Here the queue lies under ``/queue``, everything else at the
root; a request that names a logical host, or carries its target in a header of the proxy route, is led to the same
place. What a route needs to know about the way in is left in ``scope["state"]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hidream_edit.api import wire

PROXY_PATHS = frozenset({"/api/fal/proxy", "/api/proxy"})
QUEUE_PREFIX = "/queue"
RUN, QUEUE, REST, FILES, PLATFORM, SITE = "run", "queue", "rest", "files", "platform", "site"
HOSTS = {
    "fal.run": RUN, "falrun.com": RUN, "queue.fal.run": QUEUE, "queue.falrun.com": QUEUE, "rest.fal.ai": REST,
    "rest.alpha.fal.ai": REST, "fal.media": FILES, "v3.fal.media": FILES, "v3b.fal.media": FILES,
    "api.fal.ai": PLATFORM, "fal.ai": SITE,
}  # fmt: skip


def host_names(bases: tuple[str, ...]) -> dict[str, str]:
    """Surface by host name; ``bases`` are further domains that stand for the hosted ones, such as ``localhost`` for
    ``queue.localhost``."""
    named = {f"{name}.{base}": name for base in bases for name in (RUN, QUEUE, REST, FILES)}
    return HOSTS | named


@dataclass(frozen=True, slots=True)
class Way:
    """How a request came in. ``origin`` reaches us again the same way; ``queue_base`` is where its queue lies."""

    origin: str
    queue_base: str


class Doors:
    """ASGI middleware; ``bases`` as in `host_names`."""

    def __init__(self, app: ASGIApp, bases: tuple[str, ...] = ("localhost",)) -> None:
        self._app = app
        self._hosts = host_names(bases)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        secure = scope.get("scheme") in ("https", "wss")
        host = headers.get("host", "localhost")
        origin = f"{'https' if secure else 'http'}://{host}"
        path, surface = scope["path"], self._hosts.get(host.partition(":")[0].lower())
        queue_base = f"{origin}{QUEUE_PREFIX}"
        query: bytes = scope.get("query_string", b"")
        if path.rstrip("/") in PROXY_PATHS and scope["type"] == "http":
            if scope["method"] == "OPTIONS":
                await self._app(scope, receive, send)
                return
            target = urlsplit(headers.get(wire.TARGET_URL, ""))
            surface = self._hosts.get((target.hostname or "").lower())
            if target.scheme not in ("http", "https") or surface is None:
                await JSONResponse("Invalid request", 400)(scope, receive, send)
                return
            path, query = target.path or "/", target.query.encode()
            if surface == QUEUE:
                queue_base = f"{target.scheme}://{target.netloc}"
        elif surface == QUEUE:
            queue_base = origin
        if surface == QUEUE and not path.startswith(f"{QUEUE_PREFIX}/"):
            path = QUEUE_PREFIX + path
        led: dict[str, Any] = dict(scope) | {
            "path": path,
            "raw_path": path.encode("utf-8", "surrogateescape"),
            "query_string": query,
            "state": {**scope.get("state", {}), "way": Way(origin, queue_base)},
        }
        await self._app(led, receive, send)
