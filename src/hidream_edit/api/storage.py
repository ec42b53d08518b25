"""Uploads in all the ways that the two clients use, and downloads."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hidream_edit.api import wire
from hidream_edit.api.auth import Caller, NotAllowed, NotAuthenticated
from hidream_edit.api.errors import BadRequest
from hidream_edit.api.handover import Handover
from hidream_edit.api.links import FILES_PATH, LINK_SECONDS, LINK_SECONDS_MAX
from hidream_edit.api.services import caller_of, services_of, way_of
from hidream_edit.api.submitting import read_body
from hidream_edit.api.uploads import Upload, Uploads
from hidream_edit.domain.blobs import Access, BlobFacts
from hidream_edit.domain.errors import BlobNotFound

TOKEN_SECONDS = 600.0
CACHING, PRIVATE_CACHING = "public, max-age=31536000, immutable", "private, no-store"
DEFAULT_TYPE = "application/octet-stream"
# Types that a browser would run are handed out as plain bytes: what is stored here comes from strangers.
SHOWN = ("image/", "video/", "audio/", "text/plain", "application/json", "application/octet-stream")


async def initiate(request: Request) -> Response:
    """Promise a place: where to put the bytes, and where they will be."""
    caller = await caller_of(request)
    body = await read_body(request)
    content_type = str(body.get("content_type") or DEFAULT_TYPE)[:200]
    upload = _begun(request, caller, content_type, _name(body.get("file_name")))
    origin = way_of(request).origin
    return JSONResponse(
        {
            "upload_url": f"{origin}/storage/upload/{upload.blob_id}?token={upload.token}",
            "file_url": _file_url(origin, upload),
        }
    )


async def put(request: Request) -> Response:
    """The bytes of an upload in one piece; the address carries its own secret."""
    upload = _upload(request)
    await _stored(request, upload)
    return JSONResponse({"file_url": _file_url(way_of(request).origin, upload)})


async def put_part(request: Request) -> Response:
    """One part of a large upload, in any order."""
    upload = _upload(request)
    return await _part(request, upload, int(request.path_params["number"]))


async def complete(request: Request) -> Response:
    """Join the parts."""
    upload = _upload(request)
    return await _joined(request, upload)


async def token(request: Request) -> Response:
    """A short-lived token for direct uploads."""
    caller = await caller_of(request)
    until = datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS)
    return JSONResponse(
        {
            "token": services_of(request).auth.token_for(caller, seconds=TOKEN_SECONDS),
            "token_type": "Bearer",
            "base_url": way_of(request).origin,
            "expires_at": until.isoformat(),
        }
    )


async def upload_file(request: Request) -> Response:
    """A direct upload in one piece."""
    upload = await _direct(request)
    await _stored(request, upload)
    return JSONResponse({"access_url": _file_url(way_of(request).origin, upload)})


async def begin_multipart(request: Request) -> Response:
    """A direct upload in parts."""
    upload = await _direct(request)
    return JSONResponse({"access_url": _file_url(way_of(request).origin, upload), "uploadId": upload.token})


async def put_direct_part(request: Request) -> Response:
    """One part of a direct upload; parts come in parallel and out of order."""
    return await _part(request, await _direct_part_of(request), int(request.path_params["number"]))


async def complete_direct(request: Request) -> Response:
    """Join the parts of a direct upload."""
    return await _joined(request, await _direct_part_of(request))


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


def uploads_of(request: Request) -> Uploads:
    """The uploads that are under way."""
    uploads: Uploads = request.app.state.uploads
    return uploads


def _upload(request: Request) -> Upload:
    return uploads_of(request).find(request.path_params["blob_id"], request.query_params.get("token", ""))


async def _direct(request: Request) -> Upload:
    caller = await caller_of(request)
    content_type = request.headers.get("content-type", DEFAULT_TYPE)
    name = _name(request.headers.get(wire.FILE_NAME))
    return _begun(request, caller, content_type, name)


def _begun(request: Request, caller: Caller, content_type: str, file_name: str) -> Upload:
    limits = services_of(request).limits
    return uploads_of(request).begin(
        caller.id,
        content_type,
        file_name,
        wire.keep_seconds(request.headers, limits.upload_keep_seconds),
        access=wire.file_access(request.headers, limits.file_access),
        bytes_max=caller.quota.bytes_max,
    )


async def _direct_part_of(request: Request) -> Upload:
    caller, blob_id = await caller_of(request), request.path_params["blob_id"]
    upload = uploads_of(request).find(blob_id, request.path_params["upload_id"])
    if upload.caller != caller.id:
        raise BlobNotFound(blob_id)
    return upload


async def _stored(request: Request, upload: Upload) -> None:
    services = services_of(request)
    limit = services.limits.upload_bytes_max
    content_type = request.headers.get("content-type", upload.content_type)
    await _drained(
        request,
        limit,
        lambda pieces: services.blobs.put(
            pieces,
            content_type,
            now=services.clock(),
            keep_seconds=upload.keep_seconds,
            file_name=upload.file_name,
            blob_id=upload.blob_id,
            caller=upload.caller,
            access=upload.access,
            bytes_max=upload.bytes_max,
        ),
    )
    uploads_of(request).end(upload)


async def _part(request: Request, upload: Upload, number: int) -> Response:
    services = services_of(request)
    if not 1 <= number <= 10_000:
        raise BadRequest("parts are numbered from 1 to 10000")
    name = upload.part_id(number)
    await _drained(
        request,
        services.limits.upload_bytes_max,
        lambda pieces: services.blobs.put(
            pieces,
            DEFAULT_TYPE,
            now=services.clock(),
            keep_seconds=upload.seconds_left,
            blob_id=name,
            caller=upload.caller,
            access=Access.HIDE,
            bytes_max=upload.bytes_max,
        ),
    )
    etag = f'"{name}"'
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"etag": etag})


async def _joined(request: Request, upload: Upload) -> Response:
    services = services_of(request)
    body = await read_body(request)
    try:
        numbers = sorted(int(part["partNumber"]) for part in body["parts"])
    except (KeyError, TypeError, ValueError) as malformed:
        raise BadRequest("parts should be a list of objects with a partNumber") from malformed
    if numbers != list(range(1, len(numbers) + 1)):
        raise BadRequest("parts are missing")

    def join() -> None:
        now = services.clock()

        def pieces() -> Iterator[bytes]:
            for number in numbers:
                yield from services.blobs.read(upload.part_id(number), now=now)

        try:
            services.blobs.put(
                pieces(),
                upload.content_type,
                now=now,
                keep_seconds=upload.keep_seconds,
                file_name=upload.file_name,
                blob_id=upload.blob_id,
                caller=upload.caller,
                access=upload.access,
            )
        except BlobNotFound as missing:
            raise BadRequest("a part was not uploaded") from missing
        for number in numbers:
            services.blobs.delete(upload.part_id(number))

    await asyncio.to_thread(join)
    uploads_of(request).end(upload)
    return JSONResponse({"access_url": _file_url(way_of(request).origin, upload)})


async def _drained(request: Request, limit: int, store: Callable[[Iterator[bytes]], object]) -> None:
    """Hand the body to ``store`` piece by piece, in a thread that is never more than a few pieces behind."""
    handover = Handover()
    storing = asyncio.ensure_future(asyncio.to_thread(handover.serve, store))
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise BadRequest(f"a file may have {limit:,} bytes", status=413)
            if piece:
                await handover.give(piece)
            if storing.done():  # it was refused before its end
                break
        await handover.give(None)
    except BaseException as broken:
        await handover.give(broken if isinstance(broken, Exception) else ConnectionError("the upload broke off"))
        await asyncio.gather(storing, return_exceptions=True)
        raise
    await storing


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


def _name(given: object) -> str:
    return PurePosixPath(str(given or "file").replace("\\", "/")).name[:120] or "file"


def _file_url(origin: str, upload: Upload) -> str:
    suffix = PurePosixPath(upload.file_name).suffix or mimetypes.guess_extension(upload.content_type) or ""
    clean = "".join(letter for letter in suffix if letter.isascii() and letter.isalnum())[:8]
    return f"{origin}{FILES_PATH}{upload.blob_id}/file" + (f".{clean}" if clean else "")
