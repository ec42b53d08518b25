"""From a request's body and headers to a stored job: the one way in that all ways of calling share."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import HTTPConnection, Request

from hidream_edit.api import wire, wire_input
from hidream_edit.api.auth import Caller
from hidream_edit.api.errors import BadRequest
from hidream_edit.api.links import FILES_PATH
from hidream_edit.api.services import services_of, way_of
from hidream_edit.api.traces import place_of
from hidream_edit.domain.blobs import Access
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.errors import BlobNotFound
from hidream_edit.domain.interfaces import Submit
from hidream_edit.domain.job import Failure, Job, NewJob, Priority

LOW, NO = "low", "0"
RETRY_OFF = frozenset({"1", "true", "yes"})
OWN_BLOB = "blob:"
INSTRUCTION_LETTERS = 500  # what is kept of it to find a request again
PRIVATE_SECONDS = 3600.0  # within which the result of a request that is not to be stored has to be fetched


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request, whatever its content type says.

    Raises:
        BadRequest: larger than allowed.
        InputRefused: not JSON, or not an object.
    """
    limit = services_of(request).limits.body_bytes_max
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise BadRequest(f"the body has more than the {limit:,} bytes allowed", status=413)
        pieces.append(piece)
    try:
        # Large bodies carry pictures; reading one would hold everybody else up.
        body = b"".join(pieces)
        value = json.loads(body) if size < 100_000 else await asyncio.to_thread(json.loads, body)
    except (ValueError, RecursionError) as malformed:
        raise wire_input.body_refused("JSON decode error", "json_invalid") from malformed
    if not isinstance(value, dict):
        raise wire_input.body_refused("Input should be a valid dictionary", "dict_type")
    return value


async def read_edit(request: HTTPConnection, caller: Caller, body: dict[str, Any]) -> EditRequest:
    """The edit in a body; a picture of our own storage is named by its id, so nobody has to fetch it over HTTP.

    Raises:
        InputRefused: something is wrong with it.
    """
    edit = wire_input.read_input(body, request.headers)
    if edit.image_url.startswith(OWN_BLOB):
        return replace(edit, image_url="data:")  # that scheme is ours, not a caller's
    blob_id = own_blob(request, edit.image_url)
    if blob_id is None:
        return edit
    if not await _may_use(request, caller, blob_id, edit.image_url):
        raise wire_input.file_refused("the uploaded file is not there any more")
    return replace(edit, image_url=OWN_BLOB + blob_id)


async def _may_use(request: HTTPConnection, caller: Caller, blob_id: str, url: str) -> bool:
    """Whether a file of our own storage may be edited; what does not exist shows when it is read."""
    services = services_of(request)
    now = services.clock()
    try:
        facts = await asyncio.to_thread(services.blobs.facts, blob_id, now=now)
    except BlobNotFound:
        return True
    if facts.access is Access.ALLOW or facts.caller == caller.id:
        return True
    return services.links.opens(blob_id, dict(parse_qsl(urlsplit(url).query)), now=now)


def own_blob(request: HTTPConnection, url: str) -> str | None:
    """The id of a blob, where ``url`` is an address of our own storage."""
    parts = urlsplit(url) if url[:5].lower() in ("http:", "https") else None
    if parts is None or not parts.path.startswith(FILES_PATH):
        return None
    is_ours = parts.netloc.lower() == request.headers.get("host", "").lower()
    if not is_ours and parts.hostname not in services_of(request).file_hosts:
        return None
    return parts.path.removeprefix(FILES_PATH).partition("/")[0]


async def submit(
    request: HTTPConnection,
    caller: Caller,
    edit: EditRequest | None,
    *,
    failure: Failure | None = None,
    wants_previews: bool = False,
    webhook_url: str | None = None,
    waiting_max: int | None = None,
) -> Job:
    """Store a job, durably.

    Raises:
        BadRequest: a header that cannot be read.
        QueueFull: more wait than the caller allows.
        CallerLimited: the caller's quota is used up for now.
    """
    services, headers = services_of(request), request.headers
    now = services.clock()
    try:
        timeout = wire.start_timeout(headers)
    except ValueError as malformed:
        raise BadRequest(str(malformed)) from malformed
    new = NewJob(
        id=str(uuid.uuid4()),
        caller=caller.id,
        input={} if edit is None else edit.as_json(),
        priority=Priority.LOW if headers.get(wire.PRIORITY, "").lower() == LOW else Priority.NORMAL,
        attempts_max=1 if headers.get(wire.NO_RETRY, "").lower() in RETRY_OFF else services.limits.attempts_max,
        start_deadline=None if timeout is None else now + timeout,
        wants_previews=wants_previews,
        webhook_url=webhook_url,
        origin=way_of(request).origin,
        idempotency_key=headers.get(wire.IDEMPOTENCY),
        keep_seconds=wire.keep_seconds(headers, services.limits.result_keep_seconds)
        or services.limits.result_keep_seconds,
        instruction="" if edit is None else (edit.edit_input.edit_instruction or "")[:INSTRUCTION_LETTERS],
        access=wire.file_access(headers, services.limits.file_access),
    )
    if headers.get(wire.STORE_IO, "").strip() == NO:
        new = replace(new, instruction="", store_io=False, keep_seconds=min(new.keep_seconds, PRIVATE_SECONDS))
    with services.tracer.begin("submit", place_of(request), kind="producer") as span:
        new = replace(new, traceparent=span.traceparent)
        job = await services.submitter.submit(Submit(new, waiting_max, failure, caller.quota))
        span.note(request_id=job.id, state=job.state.value)
    services.watcher.seen(job)
    return job
