"""The answer that a finished job leads to; the same whoever asks."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from hidream_edit.api import wire
from hidream_edit.api.links import Links
from hidream_edit.api.services import services_of, way_of
from hidream_edit.domain.blobs import BlobStore
from hidream_edit.domain.errors import BlobNotFound
from hidream_edit.domain.job import Event, Job, JobState
from hidream_edit.domain.quality import Quality

FETCHED_SECONDS = 60.0
SUFFIXES = {"image/jpeg": "jpeg", "image/png": "png"}


async def outcome(request: Request, job: Job) -> JSONResponse:
    """The model's own status, headers and body."""
    headers = {wire.REQUEST_ID: job.id}
    if job.runner_id is not None:
        headers[wire.SERVED_FROM] = job.runner_id
    if job.state is JobState.CANCELLED:
        headers[wire.ERROR_TYPE] = wire.CANCELLED_BODY["error_type"]
        return JSONResponse(wire.CANCELLED_BODY, wire.CANCELLED_STATUS, headers=headers)
    if job.failure is not None:
        headers |= wire.failure_headers(job.failure)
        return JSONResponse(wire.failure_body(job.failure), wire.failure_status(job.failure), headers=headers)
    body = await output(request, job)
    headers |= {wire.BILLABLE_UNITS: "1", wire.QUALITY: body.get("quality", {}).get("preset", Quality.EXACT.value)}
    return JSONResponse(body, headers=headers)


async def output(request: HTTPConnection, job: Job) -> dict[str, Any]:
    """The output of a completed job, its pictures as addresses that the caller can reach, or as data URIs.

    What is not to be stored is deleted soon after; not at once, since the answer may be lost on its way.
    """
    if job.output is None:
        raise ValueError(f"job {job.id} has no output")
    images = job.output["images"]
    if job.output["sync_mode"]:
        urls = [await data_uri(request, image["blob"], image["content_type"]) for image in images]
    else:
        services = services_of(request)
        urls = [image_url(job, image, services.links, way_of(request).origin, now=services.clock()) for image in images]
    if not job.store_io:
        services = services_of(request)
        await asyncio.to_thread(services.store.keep_until, job.id, services.clock() + FETCHED_SECONDS)
    return wire.output_body(job.output, urls)


async def data_uri(request: HTTPConnection, blob_id: str, content_type: str) -> str:
    """A blob inside an address.

    Raises:
        BlobNotFound: its time is over.
    """
    services = services_of(request)
    return await asyncio.to_thread(read_data_uri, services.blobs, blob_id, content_type, now=services.clock())


async def newest_preview(request: HTTPConnection, events: Sequence[Event]) -> str | None:
    """The newest preview of some events, as a data URI; None where there is none, or not any more."""
    names = [str(event.facts["preview"]) for event in events if "preview" in event.facts]
    try:
        return await data_uri(request, names[-1], "image/jpeg") if names else None
    except BlobNotFound:
        return None


def read_data_uri(blobs: BlobStore, blob_id: str, content_type: str, *, now: float) -> str:
    """See `data_uri`."""
    data = b"".join(blobs.read(blob_id, now=now))
    return f"data:{content_type};base64,{base64.b64encode(data).decode('ascii')}"


def webhook_body(job: Job, blobs: BlobStore, links: Links, *, now: float) -> dict[str, Any]:
    """What a webhook says of a finished job; its payload is the result of the queue."""
    if job.state is JobState.CANCELLED:
        return wire.webhook_body(job.id, wire.CANCELLED_BODY, status=wire.CANCELLED_STATUS)
    if job.failure is not None:
        return wire.webhook_body(job.id, wire.failure_body(job.failure), status=wire.failure_status(job.failure))
    if job.output is None:
        raise ValueError(f"job {job.id} has not ended")
    images = job.output["images"]
    try:
        if job.output["sync_mode"]:
            urls = [read_data_uri(blobs, image["blob"], image["content_type"], now=now) for image in images]
        else:
            urls = [image_url(job, image, links, job.origin, now=now) for image in images]
    except BlobNotFound:
        return wire.webhook_body(job.id, None, status=200, payload_error="the pictures were deleted")
    return wire.webhook_body(job.id, wire.output_body(job.output, urls), status=200)


def image_url(job: Job, image: Mapping[str, Any], links: Links, origin: str, *, now: float) -> str:
    """Where a picture lies."""
    return links.url(origin, image["blob"], f"image.{SUFFIXES[image['content_type']]}", access=job.access, now=now)
