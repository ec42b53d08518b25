"""An edit → the body and the headers of the request that asks for it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from hidream_edit.client.actions import Call
from hidream_edit.client.errors import InputRefused
from hidream_edit.client.server import Server
from hidream_edit.client.sources import Source


class Fields(TypedDict, total=False):
    """What may be said about an edit beside the picture and the instruction. Left out means the model's default.

    The wire's own names are taken too, and at run time any other name, which is sent as it is; a server that does not
    know it says so in the warnings of the edit.
    """

    description: str | None
    negative_prompt: str | None
    seed: int | None
    steps: int | None
    guidance_scale: float | None
    image_guidance_scale: float | None
    num_images: int | None
    output_format: Literal["jpeg", "png"] | None
    safety_checker: bool | None
    quality: Literal["exact", "balanced", "turbo"] | None
    priority: Literal["normal", "low"] | None
    start_timeout: float | None  # seconds in which the edit has to start
    edit_instruction: str | None
    target_image_description: str | None
    num_inference_steps: int | None
    enable_safety_checker: bool | None
    sync_mode: bool | None
    hidream_quality: Literal["exact", "balanced", "turbo"] | None


ON_THE_WIRE = {
    "description": "target_image_description",
    "steps": "num_inference_steps",
    "safety_checker": "enable_safety_checker",
    "quality": "hidream_quality",
}
IN_HEADERS = {"priority": "x-fal-queue-priority", "start_timeout": "x-fal-request-start-timeout"}
IDEMPOTENCY = "x-fal-idempotency-key"


def submit_call(
    server: Server, url: str, source_url: str, instruction: str, fields: Mapping[str, Any], once: str | None
) -> Call:
    """The call that makes a request. With ``once``, an id of the caller's making, however often it arrives, one.

    Raises:
        InputRefused: a field cannot be said in JSON.
    """
    body: dict[str, Any] = {"image_url": source_url, "edit_instruction": instruction}
    headers = {"content-type": "application/json", **server.headers_for(url)}
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise InputRefused(f"{name} should be a finite number", field=ON_THE_WIRE.get(name, name))
        if name in IN_HEADERS:
            headers[IN_HEADERS[name]] = str(value)
        else:
            body[ON_THE_WIRE.get(name, name)] = value
    if once is not None:
        headers[IDEMPOTENCY] = once
    try:
        content = json.dumps(body).encode()
    except (TypeError, ValueError) as unsayable:
        raise InputRefused(f"a field cannot be sent as JSON: {unsayable}", field="body") from unsayable
    return Call("POST", url, headers, content=content, is_repeatable=once is not None)


def initiate_call(server: Server, source: Source) -> Call:
    """Ask for a place for a picture."""
    url = f"{server.url}/storage/upload/initiate"
    headers = {"content-type": "application/json", **server.headers_for(url)}
    body = {"content_type": source.content_type, "file_name": source.name}
    return Call("POST", url, headers, {"storage_type": "fal-cdn-v3"}, json.dumps(body).encode())


def put_call(place: str, source: Source) -> Call:
    """Put a picture there. The address carries its own secret, so no key goes with it."""
    return Call("PUT", place, {"content-type": source.content_type}, content=source.data)


def fetch_call(server: Server, url: str) -> Call:
    """Fetch a file, wherever it is."""
    return Call("GET", url, server.headers_for(url), follows_redirects=True)
