"""The hosted service's header names, statuses and answers ↔ our own; only `wire_input` spells them too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hidream_edit.api.problems import STATUS_OF_KIND
from hidream_edit.domain.blobs import Access
from hidream_edit.domain.job import Event, Failure, Job, JobState

REQUEST_ID = "x-fal-request-id"
ERROR_TYPE = "x-fal-error-type"
TIMEOUT_TYPE = "x-fal-request-timeout-type"
BILLABLE_UNITS = "x-fal-billable-units"
NEEDS_RETRY = "x-fal-needs-retry"
SERVED_FROM = "x-fal-served-from"
START_TIMEOUTS = ("x-fal-request-start-timeout", "x-fal-request-timeout")
PRIORITY = "x-fal-queue-priority"
IDEMPOTENCY = "x-fal-idempotency-key"
NO_RETRY = "x-fal-no-retry"
STORE_IO = "x-fal-store-io"
PREVIEWS = "x-hidream-previews"
QUALITY = "x-hidream-quality"
RUNNER_HINT, QUALITY_HINT = "x-fal-runner-hint", "quality="
TARGET_URL = "x-fal-target-url"
FILE_NAME = "x-fal-file-name"
LIFECYCLES = ("x-fal-object-lifecycle-preference", "x-fal-object-lifecycle")
EXPOSED = f"{REQUEST_ID}, {TIMEOUT_TYPE}, {ERROR_TYPE}, {BILLABLE_UNITS}, {NEEDS_RETRY}, {QUALITY}, etag"

ERROR_PAGE = "https://docs.fal.ai/errors#"
VALIDATION = "validation"
START_TIMEOUT_MIN = 0.1
UNPROCESSABLE, SERVER_ERROR = 422, 500


def failure_status(failure: Failure) -> int:
    """HTTP status of a failed job."""
    return STATUS_OF_KIND.get(failure.kind, UNPROCESSABLE)


def failure_body(failure: Failure) -> dict[str, Any]:
    """Body of a failed job: request errors as text, everything else as a list of details."""
    if failure.kind == VALIDATION:
        return {"detail": failure.context["details"]}
    if failure.kind in ("request_timeout", "runner_disconnected"):
        return {"detail": failure.message, "error_type": failure.kind}
    detail: dict[str, Any] = {
        "loc": ["body", failure.field] if failure.field else ["body"],
        "msg": failure.message,
        "type": failure.kind,
        "url": ERROR_PAGE + failure.kind,
    }
    if failure.context:
        detail["ctx"] = dict(failure.context)
    return {"detail": [detail]}


def failure_headers(failure: Failure) -> dict[str, str]:
    """Headers that clients read beside a failure."""
    status = failure_status(failure)
    headers = {ERROR_TYPE: failure.kind}
    if status == UNPROCESSABLE:
        headers[BILLABLE_UNITS] = "0"
    if status >= SERVER_ERROR:
        headers[NEEDS_RETRY] = "0"  # whatever trying again could mend was tried again here
    if failure.kind == "request_timeout":
        headers[TIMEOUT_TYPE] = "user"
    return headers


CANCELLED_STATUS = 499
CANCELLED_BODY = {"detail": "Request cancelled by the client.", "error_type": "client_cancelled"}


def urls_of(job_id: str, base: str) -> dict[str, str]:
    """The three addresses of a request; ``base`` ends before ``/requests``."""
    response = f"{base}/requests/{job_id}"
    return {"response_url": response, "status_url": f"{response}/status", "cancel_url": f"{response}/cancel"}


def submit_body(job: Job, base: str, position: int) -> dict[str, Any]:
    """Answer to a submit."""
    return {
        "status": "IN_QUEUE",
        "request_id": job.id,
        "queue_position": position,
        **urls_of(job.id, base),
        "gateway_request_id": job.id,
    }


def status_word(job: Job) -> str:
    """Where a job stands, with the three ways in which it can end told apart."""
    words = {JobState.QUEUED: "IN_QUEUE", JobState.RUNNING: "IN_PROGRESS"}
    return words.get(job.state, job.state.value.upper())


def status_code(job: Job) -> int:
    """200 means completed, whatever the body says; everything else is 202."""
    return 200 if job.state.is_final else 202


def status_body(job: Job, base: str, *, position: int, logs: list[Event] | None) -> dict[str, Any]:
    """The three statuses; failed and cancelled requests are completed ones with an error."""
    body: dict[str, Any] = {"request_id": job.id, **urls_of(job.id, base)}
    shown = None if logs is None else [log_entry(event) for event in logs]
    if job.state is JobState.QUEUED:
        return {"status": "IN_QUEUE", "queue_position": position, "logs": shown, **body}
    if job.state is JobState.RUNNING:
        return {"status": "IN_PROGRESS", "logs": shown, "metrics": {}, **body}
    body |= {"status": "COMPLETED", "logs": shown, "metrics": _metrics(job)}
    if job.state is JobState.CANCELLED:
        body |= {"error": CANCELLED_BODY["detail"], "error_type": CANCELLED_BODY["error_type"]}
    elif job.failure is not None:
        kind = "unprocessable_entity" if job.failure.kind == VALIDATION else job.failure.kind
        body |= {"error": f"Unexpected status code: {failure_status(job.failure)}", "error_type": kind}
    return body


def _metrics(job: Job) -> dict[str, float]:
    if job.output is None:
        return {}
    return {"inference_time": float(job.output["timings"]["inference"])}


def log_entry(event: Event) -> dict[str, Any]:
    """A line of the log."""
    return {
        "timestamp": datetime.fromtimestamp(event.at, UTC).isoformat(),
        "level": event.level.value,
        "message": event.message,
        "source": "USER",
        "labels": {name: str(value) for name, value in event.facts.items() if name != "preview"},
    }


def output_body(output: Mapping[str, Any], urls: list[str]) -> dict[str, Any]:
    """The output, with the addresses of its pictures."""
    images = [
        {"url": url, **{name: image[name] for name in ("width", "height", "content_type")}}
        for image, url in zip(output["images"], urls, strict=True)
    ]
    body = {"images": images, **{name: output[name] for name in ("timings", "seed", "has_nsfw_concepts", "prompt")}}
    # Who traded nothing is answered in the hosted service's words alone.
    return body | ({"quality": output["quality"]} if output.get("quality") else {})


WEBHOOK_PAYLOAD_BYTES_MAX = 20 * 2**20


def webhook_body(
    job_id: str, payload: Mapping[str, Any] | None, *, status: int, payload_error: str | None = None
) -> dict[str, Any]:
    """Body of a webhook. A payload that is too large is left out, and the body says so."""
    is_ok = status == 200
    body: dict[str, Any] = {
        "request_id": job_id,
        "gateway_request_id": job_id,
        "status": "OK" if is_ok else "ERROR",
        "payload": payload,
        "error": None if is_ok else f"Unexpected status code: {status}",
    }
    if payload is not None and len(json.dumps(payload)) > WEBHOOK_PAYLOAD_BYTES_MAX:
        body["payload"], payload_error = None, "the payload is too large for a webhook; fetch the result instead"
    return body if payload_error is None else body | {"payload_error": payload_error}


def progress_body(preview_uri: str, seed: int, prompt: str) -> dict[str, Any]:
    """An event of a stream before the last: the shape of the output, with a preview."""
    image = {"url": preview_uri, "width": 0, "height": 0, "content_type": "image/jpeg"}
    return {"images": [image], "timings": {}, "seed": seed, "has_nsfw_concepts": [], "prompt": prompt}


def sse(body: Mapping[str, Any]) -> bytes:
    """One event: a line of ASCII JSON and a blank line."""
    return b"data: " + json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n\n"


PING = b": ping\n\n"


def start_timeout(headers: Mapping[str, str]) -> float | None:
    """Seconds in which a request has to start.

    Raises:
        ValueError: the header is malformed.
    """
    for name in START_TIMEOUTS:
        if name in headers:
            seconds = float(headers[name])
            if not math.isfinite(seconds) or seconds <= START_TIMEOUT_MIN:
                raise ValueError(f"{name} should be a number of seconds above {START_TIMEOUT_MIN}")
            return seconds
    return None


def keep_seconds(headers: Mapping[str, str], otherwise: float | None) -> float | None:
    """Lifetime of produced or uploaded files; a header that cannot be read is ignored."""
    for seconds in _lifecycle(headers, "expiration_duration_seconds"):
        if isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0:
            return float(seconds)
    return otherwise


def file_access(headers: Mapping[str, str], otherwise: Access) -> Access:
    """Who may read produced or uploaded files; rules for single users are not known here, so the default decides."""
    for rules in _lifecycle(headers, "initial_acl"):
        if isinstance(rules, dict) and rules.get("default") in set(Access):
            return Access(rules["default"])
    return otherwise


def _lifecycle(headers: Mapping[str, str], field: str) -> Iterator[Any]:
    for name in LIFECYCLES:
        try:
            yield json.loads(headers[name])[field]
        except (KeyError, TypeError, ValueError, RecursionError):
            continue
