"""The answer that a finished job leads to; the same whoever asks."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from hidream_edit.api import wire
from hidream_edit.api.services import services_of, way_of
from hidream_edit.api.submitting import FILES_PATH
from hidream_edit.domain.job import Job, JobState

SUFFIXES = {"image/jpeg": "jpeg", "image/png": "png"}


async def outcome(request: Request, job: Job) -> JSONResponse:
    """The model's own status, headers and body."""
    headers = {wire.REQUEST_ID: job.id}
    if job.state is JobState.CANCELLED:
        headers[wire.ERROR_TYPE] = wire.CANCELLED_BODY["error_type"]
        return JSONResponse(wire.CANCELLED_BODY, wire.CANCELLED_STATUS, headers=headers)
    if job.failure is not None:
        headers |= wire.failure_headers(job.failure)
        return JSONResponse(wire.failure_body(job.failure), wire.failure_status(job.failure), headers=headers)
    return JSONResponse(await output(request, job), headers=headers | {wire.BILLABLE_UNITS: "1"})


async def output(request: Request, job: Job) -> dict[str, Any]:
    """The output of a completed job, its pictures as addresses that the caller can reach, or as data URIs."""
    if job.output is None:
        raise ValueError(f"job {job.id} has no output")
    images = job.output["images"]
    if job.output["sync_mode"]:
        urls = [await data_uri(request, image["blob"], image["content_type"]) for image in images]
    else:
        origin = way_of(request).origin
        urls = [f"{origin}{FILES_PATH}{one['blob']}/image.{SUFFIXES[one['content_type']]}" for one in images]
    return wire.output_body(job.output, urls)


async def data_uri(request: Request, blob_id: str, content_type: str) -> str:
    """A blob inside an address.

    Raises:
        BlobNotFound: its time is over.
    """
    services = services_of(request)

    def read() -> str:
        data = b"".join(services.blobs.read(blob_id, now=services.clock()))
        return f"data:{content_type};base64,{base64.b64encode(data).decode('ascii')}"

    return await asyncio.to_thread(read)
