"""What the owner sees of the whole server, with a key of the scope admin."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api.auth import NotAllowed
from hidream_edit.api.services import Services, services_of
from hidream_edit.domain.keys import Scope

REQUESTS_SHOWN, RUNNER_SILENT_SECONDS = 50, 15.0


async def overview(request: Request) -> Response:
    """The line, the runners, and the requests that came last; no inputs and no results."""
    await check_admin(request)
    return JSONResponse(await asyncio.to_thread(_overview, services_of(request)))


async def check_admin(request: Request) -> None:
    """Raises NotAuthenticated, NotAllowed."""
    caller = await services_of(request).auth.caller(request.headers, request.query_params)
    if caller.scope is not Scope.ADMIN:
        raise NotAllowed("This needs a key with the scope admin.")


def _overview(services: Services) -> dict[str, Any]:
    store, now = services.store, services.clock()
    runners = store.runners(since=now - RUNNER_SILENT_SECONDS)
    return {
        "status": services.readiness().word,
        "waiting": len(store.line()),
        "runners": [
            {
                "id": runner.id,
                "state": runner.state.value,
                "model": runner.engine,
                "device": runner.device,
                "seen_seconds_ago": round(now - runner.seen_at, 1),
            }
            for runner in runners
        ],
        "requests": [
            {
                "request_id": job.id,
                "caller": job.caller,
                "state": job.state.value,
                "attempt": job.attempt,
                "queued_at": job.queued_at,
                "started_at": job.started_at,
                "finished_at": job.finished_at,
                "runner": job.runner_id,
                "error": None if job.failure is None else job.failure.kind,
            }
            for job in store.recent(REQUESTS_SHOWN)
        ],
    }
