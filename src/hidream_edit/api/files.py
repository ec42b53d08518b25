"""Files that are stored: read whole or in part by whoever may, and addresses that open private ones."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hidream_edit.api.auth import NotAllowed, NotAuthenticated
from hidream_edit.api.errors import BadRequest
from hidream_edit.api.links import FILES_PATH, LINK_SECONDS, LINK_SECONDS_MAX
from hidream_edit.api.services import caller_of, services_of, way_of
from hidream_edit.api.submitting import read_body
from hidream_edit.domain.blobs import Access, BlobFacts
from hidream_edit.domain.errors import BlobNotFound

CACHING, PRIVATE_CACHING = "public, max-age=31536000, immutable", "private, no-store"
DEFAULT_TYPE = "application/octet-stream"
# Types that a browser would run are handed out as plain bytes: what is stored here comes from strangers.
SHOWN = ("image/", "video/", "audio/", "text/plain", "application/json", "application/octet-stream")


async def download(request: Request) -> Response:
    """A file, whole or in part."""
    services = services_of(request)
    blob_id, now = request.path_params["blob_id"], services.clock()
    facts = await asyncio.to_thread(services.blobs.facts, blob_id, now=now)
    await _check_access(request, facts)
    content_type = facts.content_type if facts.content_type.startswith(SHOWN) else DEFAULT_TYPE
    headers = {
        "content-type": content_type,
        "accept-ranges": "bytes",
        "etag": f'"{blob_id}"',
        "last-modified": formatdate(facts.created_at, usegmt=True),
        "cache-control": CACHING if facts.access is Access.ALLOW else PRIVATE_CACHING,
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers={name: headers[name] for name in ("etag", "cache-control")})
    status, start, length = 200, 0, facts.size
    wanted = _range(request.headers.get("range", ""), facts.size)
    if wanted == "unsatisfiable":
        return Response(status_code=416, headers={"content-range": f"bytes */{facts.size}"})
    if isinstance(wanted, tuple):
        status, (start, length) = 206, wanted
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{facts.size}"
    headers["content-length"] = str(length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    pieces = await asyncio.to_thread(services.blobs.read, blob_id, now=now, start=start, length=length)
    return StreamingResponse(pieces, status, headers=headers)


async def sign(request: Request) -> Response:
    """An address that opens a private file of the caller's own for a while, for somebody without a key."""
    caller, services = await caller_of(request), services_of(request)
    body, now = await read_body(request), services.clock()
    seconds = body.get("expiration_seconds", LINK_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= LINK_SECONDS_MAX:
        raise BadRequest(f"expiration_seconds should be up to {LINK_SECONDS_MAX:g}")
    blob_id, name = request.path_params["blob_id"], request.path_params["name"]
    facts = await asyncio.to_thread(services.blobs.facts, blob_id, now=now)
    if facts.caller != caller.id:
        raise BlobNotFound(blob_id)
    place = f"{way_of(request).origin}{FILES_PATH}{blob_id}/{quote(name)}"
    until = datetime.fromtimestamp(now + seconds, UTC)
    return JSONResponse(
        {"url": f"{place}?{services.links.query(blob_id, now + seconds)}", "expires_at": until.isoformat()}
    )


async def _check_access(request: Request, facts: BlobFacts) -> None:
    """Raises BlobNotFound, NotAllowed."""
    services = services_of(request)
    if facts.access is Access.ALLOW or services.links.opens(facts.id, request.query_params, now=services.clock()):
        return
    with contextlib.suppress(NotAuthenticated):
        if (await caller_of(request)).id == facts.caller:
            return
    if facts.access is Access.FORBID:
        raise NotAllowed("This file needs the key of its owner, or a signed address.")
    raise BlobNotFound(facts.id)


def _range(header: str, size: int) -> tuple[int, int] | str | None:
    """Start and length, "unsatisfiable", or None where the whole is wanted."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip() != "bytes" or not dash or "," in spec:
        return None
    if not all(part == "" or part.isdecimal() for part in (first, last)) or first == last == "":
        return None
    if first == "":
        length = min(int(last), size)
        return (size - length, length) if length else "unsatisfiable"
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size:
        return "unsatisfiable"
    return (start, end - start + 1) if end >= start else None
