"""What the owner sees of the whole server, with a key of the scope admin."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api.auth import NotAllowed
from hidream_edit.api.services import Services, services_of
from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.interfaces import RUNNER_SILENT_SECONDS
from hidream_edit.domain.job import JobState
from hidream_edit.domain.keys import Scope

REQUESTS_SHOWN, DELIVERIES_SHOWN = 50, 50


async def overview(request: Request) -> Response:
    """The line, the runners, keys, webhooks, and the requests that came last; no inputs, results or secrets."""
    await check_admin(request)
    return JSONResponse(await asyncio.to_thread(_overview, services_of(request)))


async def redeliver(request: Request) -> Response:
    """Call a webhook once more, whatever became of it."""
    await check_admin(request)
    services, job_id = services_of(request), request.path_params["request_id"]
    if not await asyncio.to_thread(services.store.redeliver, job_id, now=services.clock()):
        raise JobNotFound(job_id)
    return JSONResponse({"status": "DUE"}, 202)


async def check_admin(request: Request) -> None:
    """Raises NotAuthenticated, NotAllowed."""
    caller = await services_of(request).auth.caller(request.headers, request.query_params)
    if caller.scope is not Scope.ADMIN:
        raise NotAllowed("This needs a key with the scope admin.")


def _overview(services: Services) -> dict[str, Any]:
    store, now = services.store, services.clock()
    runners, recent = store.runners(since=now - RUNNER_SILENT_SECONDS), store.recent(REQUESTS_SHOWN)
    working = {job.runner_id: job.id for job in recent if job.state is JobState.RUNNING}
    return {
        "status": services.readiness().word,
        "waiting": len(store.line()),
        "runners": [
            {
                "id": runner.id,
                "state": runner.state.value,
                "model": runner.engine,
                "device": runner.device,
                "memory_bytes": runner.memory_bytes,
                "request_id": working.get(runner.id),
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
            for job in recent
        ],
        "keys": [
            {
                "id": key.id,
                "name": key.name,
                "scope": key.scope.value,
                "created_at": key.created_at,
                "revoked_at": key.revoked_at,
            }
            for key in services.auth.all_keys()
        ],
        "deliveries": [
            {
                "request_id": one.job_id,
                # The rest of an address may be a secret.
                "host": urlsplit(one.url).hostname,
                "state": one.state,
                "attempt": one.attempt,
                "due_at": one.due_at,
                "error": one.error,
            }
            for one in store.deliveries(DELIVERIES_SHOWN)
        ],
    }
