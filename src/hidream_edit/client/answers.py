"""Answers → values, or the error that says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hidream_edit.client.actions import Answer
from hidream_edit.client.errors import (
    Cancelled,
    ClientError,
    EditFailed,
    InputRefused,
    NotAllowed,
    RequestNotFound,
    TimedOut,
)
from hidream_edit.client.server import Server
from hidream_edit.client.statuses import Done, Queued, Running, Status, log_lines

TEXT_QUOTED_MAX = 300
FAILED_IN_THE_QUEUE = frozenset({
    "runner_disconnected", "runner_scheduling_failure", "runner_connection_timeout", "runner_connection_refused",
    "runner_connection_error", "runner_incomplete_response", "runner_server_error", "startup_timeout",
})  # fmt: skip


def body_of(answer: Answer, server: Server) -> dict[str, Any]:
    """The object in an answer that is a success.

    Raises:
        ClientError: whatever the answer says instead; see `error_of`.
    """
    if not 200 <= answer.status < 300:
        raise error_of(answer, server)
    body = _json(answer)
    if not isinstance(body, dict):
        raise ClientError(_stranger(server))
    return body


def text_in(body: Mapping[str, Any], name: str, server: Server) -> str:
    """A text that every such answer has.

    Raises:
        ClientError: this one has not.
    """
    if not isinstance(body.get(name), str):
        raise ClientError(_stranger(server))
    return str(body[name])


def status_of(body: Mapping[str, Any], request_id: str) -> Status:
    """Where a request stands.

    Raises:
        ClientError: in no state that is known here.
    """
    state = body.get("status")
    if state == "IN_QUEUE":
        return Queued(request_id, int(body.get("queue_position") or 0))
    logs = log_lines(body.get("logs"))
    if state == "IN_PROGRESS":
        return Running(request_id, logs)
    if state == "COMPLETED":
        error = body.get("error")
        return Done(request_id, ok=error is None, logs=logs, error=None if error is None else str(error))
    raise ClientError(f"the server says {state!r} of this request, which this client does not know; update it")


def error_of(answer: Answer, server: Server, request_id: str | None = None) -> ClientError:
    """The error that an answer stands for."""
    body = _json(answer)
    detail = body.get("detail") if isinstance(body, dict) else None
    details = [one for one in detail if isinstance(one, dict)] if isinstance(detail, list) else []
    text = _text(details, detail, answer, server)
    named = details[0].get("type") if details else body.get("error_type") if isinstance(body, dict) else None
    kind = str(named or answer.headers.get("x-fal-error-type", ""))
    return _error(answer, server, text, kind, details, request_id)


def _error(
    answer: Answer, server: Server, text: str, kind: str, details: list[dict[str, Any]], request_id: str | None
) -> ClientError:
    status = answer.status
    if status == 401:
        return NotAllowed(_about_key(server), request_id=request_id)
    if status == 403:
        return NotAllowed(f"the key does not open this: {text}", request_id=request_id)
    if status == 422:
        field = str(details[0]["loc"][-1]) if details and details[0].get("loc") else "body"
        return InputRefused(text, field=field, kind=kind, details=details, request_id=request_id)
    if kind == "client_cancelled":
        return Cancelled("the request was cancelled", request_id=request_id)
    if kind == "request_timeout":
        return TimedOut("the edit did not start in time; give it a longer start_timeout", request_id=request_id)
    if status == 404 and request_id is not None:
        return RequestNotFound(
            f"there is no request {request_id}, or it belongs to another key; results are kept for a day",
            request_id=request_id,
        )
    if details or kind in FAILED_IN_THE_QUEUE:
        return EditFailed(text, kind=kind, request_id=request_id)
    if status == 429:
        return ClientError(f"the server takes no more for now ({text}); try again later", request_id=request_id)
    if 300 <= status < 400:
        place = answer.headers.get("location", "another address").partition("?")[0]
        return ClientError(f"{server.url} leads to {place}; give that address", request_id=request_id)
    return ClientError(f"{server.url} answered {status}: {text}", request_id=request_id)


def _text(details: list[dict[str, Any]], detail: object, answer: Answer, server: Server) -> str:
    if details:
        text = "; ".join(_entry(one) for one in details)
    elif isinstance(detail, str):
        text = detail
    else:
        text = answer.body[:TEXT_QUOTED_MAX].decode("utf-8", "replace").strip() or "nothing more"
    if server.key is not None:
        text = text.replace(server.key, "…")  # a server that quotes its callers
    return text if len(text) <= TEXT_QUOTED_MAX else f"{text[:TEXT_QUOTED_MAX]}…"


def _entry(detail: Mapping[str, Any]) -> str:
    loc = detail.get("loc")
    names = [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []
    message = str(detail.get("msg", "refused"))
    return f"{'.'.join(names)}: {message}" if names and names[0] not in message else message


def _about_key(server: Server) -> str:
    if server.key is None:
        return f"{server.url} asks for a key: give key=…, or set HIDREAM_EDIT_KEY; `hidream-edit keys create` makes one"
    return f"{server.url} does not know this key; it may have been revoked, or belong to another server"


def _stranger(server: Server) -> str:
    return f"{server.url} does not answer as a hidream-edit server; give the address that `hidream-edit serve` prints"


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
