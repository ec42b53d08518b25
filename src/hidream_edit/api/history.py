"""What a caller asked for before, and what there is to ask."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api import wire
from hidream_edit.api.errors import BadRequest
from hidream_edit.api.outcome import image_url
from hidream_edit.api.services import APP_IDS, caller_of, services_of, way_of
from hidream_edit.domain.interfaces import RUNNER_SILENT_SECONDS, RunnerFacts, RunnerState
from hidream_edit.domain.job import Job
from hidream_edit.version import __version__

PAGE, PAGE_MAX = 24, 100


async def requests(request: Request) -> Response:
    """The caller's own requests, newest first, a page at a time; ``search`` looks at their instructions."""
    caller, services = await caller_of(request), services_of(request)
    limit = _number(request, "limit", PAGE)
    before = _number(request, "before", None)
    if limit is None or not 1 <= limit <= PAGE_MAX:
        raise BadRequest(f"limit should be from 1 to {PAGE_MAX}")
    words = request.query_params.get("search", "")
    jobs = await asyncio.to_thread(services.store.of_caller, caller.id, limit=limit + 1, before=before, words=words)
    shown = jobs[:limit]
    return JSONResponse(
        {
            "requests": [_entry(request, job) for job in shown],
            "before": shown[-1].sequence if len(jobs) > limit else None,
        }
    )


async def about(request: Request) -> Response:
    """Which model runs, on what, and what it is good at."""
    services = services_of(request)
    ready = services.readiness()
    since = services.clock() - RUNNER_SILENT_SECONDS
    runners = await asyncio.to_thread(services.store.runners, since=since)
    runner = next((one for one in runners if one.state is RunnerState.READY), None)
    return JSONResponse(
        {
            "version": __version__,
            "app": APP_IDS[0],
            "status": ready.word,
            "safety": ready.safety,
            "model": None if runner is None else _model(runner),
        }
    )


def _model(runner: RunnerFacts) -> dict[str, Any]:
    return {"name": runner.engine, "device": runner.device, "examples": list(runner.examples)}


def _entry(request: Request, job: Job) -> dict[str, Any]:
    services = services_of(request)
    images = [] if job.output is None or job.output["sync_mode"] else job.output["images"]
    origin, now = way_of(request).origin, services.clock()
    seconds = job.finished_at - job.started_at if job.finished_at and job.started_at else None
    return {
        "request_id": job.id,
        "status": wire.status_word(job),
        "error": None if job.failure is None else job.failure.message,
        "instruction": job.instruction,
        "queued_at": job.queued_at,
        "seconds": seconds,
        "seed": None if job.output is None else job.output["seed"],
        "images": [image_url(job, image, services.links, origin, now=now) for image in images],
    }


def _number(request: Request, name: str, otherwise: int | None) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return otherwise
    if not given.isascii() or not given.isdecimal() or len(given) > DIGITS_MAX:
        raise BadRequest(f"{name} should be a whole number")
    return int(given)


DIGITS_MAX = 15
