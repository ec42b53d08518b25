"""Server-sent events: previews while the edit runs, then the result, from the same job events as everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hidream_edit.api import wire
from hidream_edit.api.outcome import newest_preview, output
from hidream_edit.api.queue import STREAM_HEADERS
from hidream_edit.api.run import cancel_quietly
from hidream_edit.api.services import caller_of, services_of
from hidream_edit.api.submitting import read_body, read_edit, submit
from hidream_edit.domain.errors import HidreamEditError
from hidream_edit.domain.job import Job, JobState


class StreamBroken(HidreamEditError):
    """Ends a stream without its closing chunk, so that no client takes a failure for a result."""


async def stream(request: Request) -> Response:
    """Submit, then tell how it goes."""
    caller = await caller_of(request)
    edit = await read_edit(request, caller, await read_body(request))
    job = await submit(request, caller, edit, wants_previews=True)
    prompt, seed = edit.edit_input.edit_instruction or "", edit.edit_input.seed or 0
    return StreamingResponse(
        _events(request, job, seed=seed, prompt=prompt),
        media_type="text/event-stream",
        headers=STREAM_HEADERS | {wire.REQUEST_ID: job.id},
    )


async def _events(request: Request, job: Job, *, seed: int, prompt: str) -> AsyncIterator[bytes]:
    services, seen, last = services_of(request), 0, job
    try:
        async for current in services.watcher.follow(job.id, idle_seconds=services.limits.ping_seconds):
            if current is None:
                yield wire.PING
                continue
            last = current
            fresh = await asyncio.to_thread(services.store.events, job.id, after=seen)
            seen = fresh[-1].number if fresh else seen
            # A reader who is behind gets the newest preview only.
            if not current.state.is_final and (uri := await newest_preview(request, fresh)):
                yield wire.sse(wire.progress_body(uri, seed, prompt))
        if last.state is JobState.COMPLETED:
            yield wire.sse(await output(request, last))
            return
        text = last.failure.message if last.failure else wire.CANCELLED_BODY["detail"]
        yield wire.sse({"error": text})
        raise StreamBroken(text)
    finally:
        if not last.state.is_final:
            await asyncio.shield(cancel_quietly(services, job.id))
