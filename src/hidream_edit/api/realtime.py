"""Several edits over one connection: messages in, results out, in msgpack as both clients speak it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import msgpack
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from hidream_edit.api import wire, wire_input
from hidream_edit.api.auth import NotAuthenticated
from hidream_edit.api.errors import BadRequest, count_refusal
from hidream_edit.api.outcome import output
from hidream_edit.api.run import cancel_quietly
from hidream_edit.api.services import caller_of, services_of
from hidream_edit.api.submitting import read_edit, submit
from hidream_edit.domain.errors import CallerLimited
from hidream_edit.domain.job import Job, JobState

MESSAGES_WAITING_MAX = 60
Message = tuple[dict[str, Any], bool]  # the input, and whether it came as text


async def realtime(socket: WebSocket) -> None:
    """Answer each message with a result or an error, in their order, until the client leaves or falls silent."""
    try:
        caller = await caller_of(socket)
    except (NotAuthenticated, HTTPException) as refused:
        count_refusal(socket, refused)
        await socket.close()  # before the handshake: the client sees a refusal
        return
    await socket.accept()
    waiting: asyncio.Queue[Message | None] = asyncio.Queue(MESSAGES_WAITING_MAX)
    reading = asyncio.ensure_future(_read(socket, waiting))
    idle_seconds = services_of(socket).limits.realtime_idle_seconds
    try:
        while True:
            try:
                message = await asyncio.wait_for(waiting.get(), idle_seconds)
            except TimeoutError:
                await _refuse(socket, "TIMEOUT", "nothing was said for too long")
                await socket.close(1000)
                return
            if message is None:
                return
            await _answer(socket, caller, message, reading)
    except WebSocketDisconnect:
        return
    finally:
        reading.cancel()


async def _read(socket: WebSocket, waiting: asyncio.Queue[Message | None]) -> None:
    """Take messages in while an edit runs; ends when the client leaves."""
    try:
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                break
            data, text = received.get("bytes"), received.get("text")
            try:
                body = json.loads(text) if text is not None else msgpack.unpackb(data or b"", strict_map_key=False)
            except (ValueError, RecursionError, msgpack.UnpackException):
                body = None
            if not isinstance(body, dict):
                await _refuse(socket, "INVALID_MESSAGE", "a message should be a msgpack map")
                continue
            await waiting.put((body, text is not None))
    finally:
        with contextlib.suppress(asyncio.QueueFull):
            waiting.put_nowait(None)


async def _answer(socket: WebSocket, caller: Any, message: Message, reading: asyncio.Future[None]) -> None:
    body, is_text = message
    try:
        edit = await read_edit(socket, caller, body)
        job = await submit(socket, caller, edit)
    except CallerLimited as limited:
        count_refusal(socket, limited)
        await _refuse(socket, "CONCURRENT_REQUESTS_LIMIT", str(limited))
        return
    except (wire_input.InputRefused, BadRequest) as refused:
        count_refusal(socket, refused)
        await _refuse(socket, "INVALID_INPUT", str(refused))
        return
    services = services_of(socket)
    finished = asyncio.ensure_future(services.watcher.finished(job.id))
    try:
        both: set[asyncio.Future[Any]] = {finished, reading}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            return  # the client left
        await _tell(socket, finished.result(), is_text=is_text)
    finally:
        if not finished.done():
            finished.cancel()
            await cancel_quietly(services, job.id)


async def _tell(socket: WebSocket, job: Job, *, is_text: bool) -> None:
    if job.state is not JobState.COMPLETED:
        reason = job.failure.message if job.failure is not None else wire.CANCELLED_BODY["detail"]
        kind = job.failure.kind if job.failure is not None else wire.CANCELLED_BODY["error_type"]
        await _refuse(socket, kind.upper(), reason)
        return
    body = await output(socket, job)
    if is_text:
        await socket.send_text(json.dumps(body))
    else:
        await socket.send_bytes(msgpack.packb(body))


async def _refuse(socket: WebSocket, error: str, reason: str) -> None:
    await socket.send_text(json.dumps({"type": "x-fal-error", "error": error, "reason": reason}))
