"""The synchronous call: submit, then wait. A caller who goes away cancels the job."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response

from hidream_edit.api.outcome import outcome
from hidream_edit.api.services import Services, caller_of, services_of
from hidream_edit.api.submitting import read_body, read_edit, submit
from hidream_edit.domain.errors import JobFinished, JobNotFound


async def run(request: Request) -> Response:
    """Answer with the output, or with whatever went wrong."""
    caller = await caller_of(request)
    edit = await read_edit(request, caller, await read_body(request))
    job = await submit(request, caller, edit)
    services = services_of(request)
    finished = asyncio.ensure_future(services.watcher.finished(job.id))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
        if finished.done():
            return await outcome(request, finished.result())
        return Response(status_code=499)  # nobody reads it
    finally:
        if not finished.done():
            await cancel_quietly(services, job.id)
        finished.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def cancel_quietly(services: Services, job_id: str) -> None:
    """Cancel a job that nobody waits for any more; it may be too late."""
    with contextlib.suppress(JobFinished, JobNotFound):
        services.watcher.seen(await asyncio.to_thread(services.store.cancel, job_id, now=services.clock()))
