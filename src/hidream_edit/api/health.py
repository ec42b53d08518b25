"""Is the process alive; is work being done."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api.services import services_of
from hidream_edit.version import __version__


async def live(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok", "version": __version__})


async def ready(request: Request) -> Response:
    """Jobs are being worked on: loading, warming, ready, draining, runner dead."""
    readiness = services_of(request).readiness()
    body = {"status": readiness.word, "safety": readiness.safety, "version": __version__}
    return JSONResponse(body, 200 if readiness.is_ready else 503)


async def key_set(request: Request) -> Response:
    """The public key that webhooks are signed with."""
    return JSONResponse(request.app.state.key_set, headers={"cache-control": "public, max-age=3600"})
