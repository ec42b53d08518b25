"""Submit, status, status stream, result, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hidream_edit.api import wire, wire_input
from hidream_edit.api.errors import BadRequest, count_refusal
from hidream_edit.api.outcome import newest_preview, outcome
from hidream_edit.api.services import caller_of, services_of, way_of
from hidream_edit.api.submitting import read_body, read_edit
from hidream_edit.api.submitting import submit as store_job
from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.job import Event, Job, JobState

TRUE = frozenset({"1", "true"})
STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def submit(request: Request) -> Response:
    """Accept a job. Input that is wrong shows at the result, as with the hosted service."""
    caller = await caller_of(request)
    body = await read_body(request)
    limit = request.query_params.get("fal_max_queue_length")
    if limit is not None and not limit.isdecimal():
        raise BadRequest("fal_max_queue_length should be a whole number")
    waiting_max = None if limit is None else int(limit)
    try:
        edit, failure = await read_edit(request, caller, body), None
    except wire_input.InputRefused as refused:
        count_refusal(request, refused)
        edit, failure = None, refused.as_failure()
    webhook_url = request.query_params.get("fal_webhook") or None
    job = await store_job(
        request,
        caller,
        edit,
        failure=failure,
        wants_previews=request.headers.get(wire.PREVIEWS, "") in TRUE,
        webhook_url=webhook_url,
        waiting_max=waiting_max,
    )
    position = await services_of(request).watcher.position(job.id)
    return JSONResponse(wire.submit_body(job, base_of(request), position), headers={wire.REQUEST_ID: job.id})


async def status(request: Request) -> Response:
    """Where a job stands; the status code alone says whether it is over."""
    job = await own_job(request)
    logs = await _events(request, job.id) if wants_logs(request) else None
    return JSONResponse(
        await _status_body(request, job, logs), wire.status_code(job), headers={wire.REQUEST_ID: job.id}
    )


async def status_stream(request: Request) -> Response:
    """The status now and after each change, to the end; log lines once each, and the newest preview where asked."""
    job = await own_job(request)
    with_previews = request.query_params.get("previews", "0").lower() in TRUE
    return StreamingResponse(
        _statuses(request, job.id, with_logs=wants_logs(request), with_previews=with_previews),
        media_type="text/event-stream",
        headers=STREAM_HEADERS | {wire.REQUEST_ID: job.id},
    )


async def _statuses(request: Request, job_id: str, *, with_logs: bool, with_previews: bool) -> AsyncIterator[bytes]:
    services, seen, last = services_of(request), 0, None
    async for job in services.watcher.follow(job_id, idle_seconds=services.limits.ping_seconds):
        if job is None:
            yield wire.PING
            continue
        fresh = await _events(request, job_id, after=seen) if with_logs or with_previews else []
        seen = fresh[-1].number if fresh else seen
        body = await _status_body(request, job, fresh if with_logs else None)
        if with_previews and not job.state.is_final and (preview := await newest_preview(request, fresh)):
            body["preview"] = preview
        if fresh or body != last:
            yield wire.sse(body)
        last = body


async def result(request: Request) -> Response:
    """The model's own answer, once there is one."""
    job = await own_job(request)
    if not job.state.is_final:
        return JSONResponse({"detail": "Request is still in progress"}, 400, headers={wire.REQUEST_ID: job.id})
    return await outcome(request, job)


async def cancel(request: Request) -> Response:
    """A queued job never runs; a running one stops at its next step."""
    job = await own_job(request)
    services = services_of(request)
    changed = await asyncio.to_thread(services.store.cancel, job.id, now=services.clock())
    services.watcher.seen(changed)
    return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202, headers={wire.REQUEST_ID: job.id})


async def own_job(request: Request) -> Job:
    """The job of the path; somebody else's looks as if it did not exist.

    Raises:
        NotAuthenticated, JobNotFound: in this order.
    """
    caller = await caller_of(request)
    job_id = request.path_params["request_id"]
    job = await services_of(request).watcher.get(job_id)
    if job.caller != caller.id:
        raise JobNotFound(job_id)
    return job


def base_of(request: Request) -> str:
    """Where the requests of this app lie, as the caller came."""
    return f"{way_of(request).queue_base}/{request.path_params['owner']}/{request.path_params['app']}"


def wants_logs(request: Request) -> bool:
    """Clients say 0, 1, true or false."""
    return request.query_params.get("logs", "0").lower() in TRUE


async def _events(request: Request, job_id: str, *, after: int = 0) -> list[Event]:
    return await asyncio.to_thread(services_of(request).store.events, job_id, after=after)


async def _status_body(request: Request, job: Job, logs: list[Event] | None) -> dict[str, Any]:
    position = await services_of(request).watcher.position(job.id) if job.state is JobState.QUEUED else 0
    return wire.status_body(job, base_of(request), position=position, logs=logs)
