"""What callers send ↔ an `EditRequest`, or an answer in the hosted endpoint's words that says what is wrong with it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hidream_edit.api.wire import ERROR_PAGE, QUALITY, QUALITY_HINT, RUNNER_HINT, VALIDATION
from hidream_edit.domain.edit import BOUNDS, EditInput
from hidream_edit.domain.edit_request import EditRequest
from hidream_edit.domain.errors import InputInvalid
from hidream_edit.domain.job import Failure
from hidream_edit.domain.quality import Quality, quality_named

TEXT_ECHOED_MAX = 200


def _without_lone_surrogates(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_without_lone_surrogates)]


class WireInput(BaseModel):
    """Input of the endpoint (api.md 10.1). ``null`` means left out; unknown fields are ignored.

    ``hidream_quality`` is ours: its name is one that no hosted endpoint has, so that nobody asks for it unknowingly.
    """

    model_config = ConfigDict(extra="ignore")

    image_url: Text
    edit_instruction: Text | None = None
    target_image_description: Text | None = None
    negative_prompt: Text | None = None
    num_inference_steps: int | None = Field(None, ge=BOUNDS["num_inference_steps"].ge, le=50)
    seed: int | None = Field(None, ge=0, le=int(BOUNDS["seed"].le))
    guidance_scale: float | None = Field(None, ge=0, le=20, allow_inf_nan=False)
    image_guidance_scale: float | None = Field(None, ge=0, le=20, allow_inf_nan=False)
    sync_mode: bool | None = None
    num_images: int | None = Field(None, ge=1, le=4)
    enable_safety_checker: bool | None = None
    output_format: Literal["jpeg", "png"] | None = None
    hidream_quality: Literal["exact", "balanced", "turbo"] | None = None


EDIT_FIELDS = (
    "edit_instruction", "target_image_description", "negative_prompt", "num_inference_steps", "seed",
    "guidance_scale", "image_guidance_scale", "num_images",
)  # fmt: skip
NO_HEADERS: Mapping[str, str] = {}
RANDOM_SEED_END = 2**53  # JavaScript reads larger whole numbers wrongly


def read_input(body: Mapping[str, Any], headers: Mapping[str, str] = NO_HEADERS) -> EditRequest:
    """The request in a body and its headers; where both name a quality, the body is obeyed.

    Raises:
        InputRefused: something is wrong with it.
    """
    try:
        given = WireInput.model_validate(body)
    except ValidationError as wrong:
        raise InputRefused([_as_detail(dict(error)) for error in wrong.errors()]) from wrong
    fields = {name: getattr(given, name) for name in EDIT_FIELDS}
    named = quality_in(headers)
    fields["quality"] = named if given.hidream_quality is None else Quality(given.hidream_quality)
    if fields["seed"] is None:
        # Chosen here and stored, so that a second attempt makes the same picture as the first would have.
        fields["seed"] = secrets.randbelow(RANDOM_SEED_END)
    return EditRequest(
        image_url=given.image_url,
        edit_input=EditInput(**fields),
        output_format=given.output_format or "jpeg",
        sync_mode=bool(given.sync_mode),
        enable_safety_checker=given.enable_safety_checker is not False,
        ignored_fields=tuple(sorted(str(name)[:80] for name in body.keys() - WireInput.model_fields.keys()))[:20],
    )


def quality_in(headers: Mapping[str, str]) -> Quality | None:
    """The quality that a header of ours names, or the runner hint, which clients of the hosted service can send and
    its proxies let through. Other hints are theirs.

    Raises:
        InputRefused: no quality by that name.
    """
    named = [(QUALITY, headers[QUALITY])] if QUALITY in headers else []
    hint = headers.get(RUNNER_HINT, "").strip()
    if hint.startswith(QUALITY_HINT):
        named.append((RUNNER_HINT, hint.removeprefix(QUALITY_HINT)))
    found = [_named_in_header(header, word.strip()) for header, word in named]
    return found[0] if found else None


def _named_in_header(header: str, word: str) -> Quality:
    try:
        return quality_named(word, field=header)
    except InputInvalid as unknown:
        detail = {"loc": ["header", header], "msg": str(unknown), "type": unknown.kind, "ctx": unknown.context}
        raise InputRefused([detail | {"input": _speakable(word), "url": ERROR_PAGE + unknown.kind}]) from None


class InputRefused(InputInvalid):
    """A body that is not what the endpoint takes; ``details`` are the entries of the answer."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__(details[0]["msg"], field=str(details[0]["loc"][-1]), kind=VALIDATION)
        self.details = details

    def as_failure(self) -> Failure:
        """As a job keeps it."""
        return Failure(VALIDATION, str(self), self.field, {"details": self.details})


def body_refused(message: str, kind: str) -> InputRefused:
    """The body as a whole cannot be taken."""
    return InputRefused([{"loc": ["body"], "msg": message, "type": kind, "url": ERROR_PAGE + kind}])


def file_refused(message: str) -> InputRefused:
    """The picture that ``image_url`` names cannot be had."""
    kind = "file_download_error"
    return InputRefused([{"loc": ["body", "image_url"], "msg": message, "type": kind, "url": ERROR_PAGE + kind}])


def _as_detail(error: dict[str, Any]) -> dict[str, Any]:
    detail: dict[str, Any] = {"loc": ["body", *error["loc"]], "msg": error["msg"], "type": error["type"]}
    if "ctx" in error:
        detail["ctx"] = {name: _speakable(value) for name, value in error["ctx"].items()}
    detail["input"] = _speakable(error.get("input"))
    return detail | {"url": ERROR_PAGE + str(error["type"])}


def _speakable(value: Any) -> Any:
    """``value`` in a form that JSON can say and a log can bear."""
    if isinstance(value, bytes):
        return f"<binary {len(value)} bytes>"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        clean = _without_lone_surrogates(value)
        return clean if len(clean) <= TEXT_ECHOED_MAX else f"{clean[:TEXT_ECHOED_MAX]}…"
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(name): _speakable(item) for name, item in list(value.items())[:20]}
    if isinstance(value, (list, tuple)):
        return [_speakable(item) for item in value[:20]]
    return str(value)[:TEXT_ECHOED_MAX]
