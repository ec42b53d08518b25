"""Our errors → HTTP answers, one table."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from hidream_edit.api import wire, wire_input
from hidream_edit.api.auth import NotAllowed, NotAuthenticated
from hidream_edit.api.services import services_of
from hidream_edit.domain.errors import (
    BlobNotFound,
    BlobsUnavailable,
    CallerLimited,
    HidreamEditError,
    JobFinished,
    JobNotFound,
    QueueFull,
    StorageQuotaReached,
    StoreUnavailable,
)

logger = logging.getLogger(__name__)

BLOBS_RETRY_SECONDS = "5"
TOO_LARGE = 413
NOT_FOUND, ALREADY_COMPLETED = {"status": "NOT_FOUND"}, {"status": "ALREADY_COMPLETED"}


class BadRequest(HidreamEditError):
    """Something about the request itself, not its input, is wrong."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


# Words under which refusals are counted; an answer such as "no such request" is none.
REFUSALS: tuple[tuple[type[HidreamEditError], str], ...] = (
    (wire_input.InputRefused, "input"),
    (BadRequest, "input"),
    (NotAuthenticated, "auth"),
    (NotAllowed, "auth"),
    (QueueFull, "queue_full"),
    (StorageQuotaReached, "storage"),
    (StoreUnavailable, "unavailable"),
    (BlobsUnavailable, "unavailable"),
)


def count_refusal(connection: HTTPConnection, error: Exception) -> None:
    """Add it to the numbers that this process shows."""
    word = next((word for kind, word in REFUSALS if isinstance(error, kind)), None)
    if isinstance(error, CallerLimited):
        word = "rate" if error.is_rate else "concurrent"
    elif isinstance(error, BadRequest) and error.status == TOO_LARGE:
        word = "too_large"
    if word is not None:
        services_of(connection).meters.rejected(word)


def answer(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of ours."""
    count_refusal(request, error)
    if isinstance(error, wire_input.InputRefused):
        headers = {wire.BILLABLE_UNITS: "0", wire.NEEDS_RETRY: "0"}
        return JSONResponse({"detail": error.details}, 422, headers=headers)
    if isinstance(error, NotAuthenticated):
        app = "/".join(request.url.path.strip("/").removeprefix("queue/").split("/")[:2])
        text = f'Cannot access application "{app}". Authentication is required to access this application.'
        return JSONResponse({"detail": text}, 401)
    if isinstance(error, JobNotFound):
        return JSONResponse(NOT_FOUND, 404)
    if isinstance(error, JobFinished):
        return JSONResponse(ALREADY_COMPLETED, 400)
    if isinstance(error, (BlobNotFound, BlobsUnavailable, StorageQuotaReached)):
        return _about_files(error)
    if isinstance(error, QueueFull):
        return _request_error(429, str(error), "concurrent_requests_limit", {wire.NEEDS_RETRY: "1"})
    if isinstance(error, CallerLimited):
        headers = {wire.NEEDS_RETRY: "1", "retry-after": str(math.ceil(error.retry_after))}
        return _request_error(429, str(error), "concurrent_requests_limit", headers)
    if isinstance(error, NotAllowed):
        return JSONResponse({"detail": str(error)}, 403)
    if isinstance(error, BadRequest):
        return _request_error(error.status, str(error), "bad_request")
    if isinstance(error, StoreUnavailable):
        text = "The request was not accepted: its durable store cannot be reached. Try again."
        return _request_error(503, text, "internal_error", {wire.NEEDS_RETRY: "1"})
    logger.error("an error of ours has no answer of its own", exc_info=error)
    return JSONResponse({"detail": "Internal Server Error"}, 500)


def _about_files(error: BlobNotFound | BlobsUnavailable | StorageQuotaReached) -> JSONResponse:
    if isinstance(error, BlobNotFound):
        return JSONResponse({"detail": "File not found"}, 404)
    if isinstance(error, StorageQuotaReached):
        return _request_error(TOO_LARGE, str(error), "bad_request")
    logger.error("%s", error)  # an address of the owner's network may be in it
    text = "Files cannot be stored or read right now. Try again."
    headers = {wire.NEEDS_RETRY: "1", "retry-after": BLOBS_RETRY_SECONDS}
    return _request_error(503, text, "internal_error", headers)


def http_answer(request: Request, error: Exception) -> JSONResponse:
    """The framework's own errors: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    text = f"Path {request.url.path} not found" if error.status_code == 404 else error.detail
    headers = {**(error.headers or {}), wire.BILLABLE_UNITS: "0"}
    return JSONResponse({"detail": text}, error.status_code, headers=headers)


def unexpected(_: Request, error: Exception) -> JSONResponse:
    """A fault of ours; the framework logs it and raises it on."""
    logger.error("unhandled", exc_info=error)
    return JSONResponse({"detail": "Internal Server Error"}, 500)


def _request_error(status: int, text: str, kind: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body: dict[str, Any] = {"detail": text, "error_type": kind}
    return JSONResponse(body, status, headers={wire.ERROR_TYPE: kind, **(headers or {})})
