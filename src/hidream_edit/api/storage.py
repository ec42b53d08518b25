"""Uploads in all the ways that the two clients use."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api import wire
from hidream_edit.api.auth import Caller
from hidream_edit.api.errors import BadRequest
from hidream_edit.api.handover import Handover
from hidream_edit.api.links import FILES_PATH
from hidream_edit.api.services import caller_of, services_of, way_of
from hidream_edit.api.submitting import read_body
from hidream_edit.api.uploads import Upload, Uploads
from hidream_edit.domain.blobs import Access
from hidream_edit.domain.errors import BlobNotFound

TOKEN_SECONDS = 600.0
DEFAULT_TYPE = "application/octet-stream"


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


def _name(given: object) -> str:
    return PurePosixPath(str(given or "file").replace("\\", "/")).name[:120] or "file"


def _file_url(origin: str, upload: Upload) -> str:
    suffix = PurePosixPath(upload.file_name).suffix or mimetypes.guess_extension(upload.content_type) or ""
    clean = "".join(letter for letter in suffix if letter.isascii() and letter.isalnum())[:8]
    return f"{origin}{FILES_PATH}{upload.blob_id}/file" + (f".{clean}" if clean else "")
