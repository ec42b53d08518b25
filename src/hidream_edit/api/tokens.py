"""Short-lived tokens, for browsers that must not hold a key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api.errors import BadRequest
from hidream_edit.api.services import caller_of, services_of
from hidream_edit.api.submitting import read_body

SECONDS_MAX, SECONDS = 3600.0, 120.0


async def create(request: Request) -> Response:
    """A bare JSON string, as both clients read it."""
    return JSONResponse(await _token(request))


async def create_realtime(request: Request) -> Response:
    """The documented form for providers of one's own."""
    return JSONResponse({"token": await _token(request)})


async def _token(request: Request) -> str:
    caller = await caller_of(request)
    body = await read_body(request)
    asked = body.get("token_expiration", body.get("duration", SECONDS))
    if isinstance(asked, bool) or not isinstance(asked, (int, float)) or not 0 < asked <= SECONDS_MAX:
        raise BadRequest(f"a token lives up to {SECONDS_MAX:g} seconds")
    return services_of(request).auth.token_for(caller, seconds=float(asked))
