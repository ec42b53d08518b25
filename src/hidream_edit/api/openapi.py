"""The endpoint's description, in the form that the platform publishes, and the listing of models."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api.services import APP_IDS, services_of, way_of
from hidream_edit.domain.edit import BOUNDS, EditDefaults
from hidream_edit.domain.quality import Quality

NAME = "HidreamE1Full"
ORDER = (
    "edit_instruction", "target_image_description", "negative_prompt", "image_url", "num_inference_steps", "seed",
    "guidance_scale", "image_guidance_scale", "sync_mode", "num_images", "enable_safety_checker", "output_format",
    "hidream_quality",
)  # fmt: skip
DESCRIPTIONS = {
    "edit_instruction": "What to change in the picture.",
    "target_image_description": "What the edited picture shows. May stay empty.",
    "negative_prompt": "What the edited picture should not be.",
    "image_url": "The picture to edit: an http(s) address, a data URI, or an address of this server's storage.",
    "num_inference_steps": "How many denoising steps to take.",
    "seed": "The same seed and input give the same picture. Image k of a request has seed + k.",
    "guidance_scale": "How strictly the words are followed.",
    "image_guidance_scale": "How strictly the source is kept.",
    "sync_mode": "Answer with data URIs, and keep no files.",
    "num_images": "How many pictures to make.",
    "enable_safety_checker": "Check the pictures, where a checker is installed.",
    "output_format": "Format of the pictures.",
    "hidream_quality": "What may be traded for time: nothing (exact), what is hard to see (balanced), more (turbo).",
}
TYPES = {
    "edit_instruction": "string", "target_image_description": "string", "negative_prompt": "string",
    "image_url": "string", "num_inference_steps": "integer", "seed": "integer", "guidance_scale": "number",
    "image_guidance_scale": "number", "sync_mode": "boolean", "num_images": "integer",
    "enable_safety_checker": "boolean", "output_format": "string", "hidream_quality": "string",
}  # fmt: skip


async def document(request: Request) -> Response:
    """The queue's OpenAPI document of one endpoint."""
    endpoint = request.query_params.get("endpoint_id", APP_IDS[0])
    if endpoint not in APP_IDS:
        raise HTTPException(404)
    return JSONResponse(queue_document(endpoint, way_of(request).queue_base, services_of(request).defaults()))


async def models(request: Request) -> Response:
    """The listing of models, as the platform's API gives it."""
    asked = request.query_params.getlist("endpoint_id") or list(APP_IDS)
    expand = "openapi-3.0" in request.query_params.getlist("expand")
    defaults, way = services_of(request).defaults(), way_of(request)
    listed = []
    for endpoint in (one for one in APP_IDS if one in asked):
        entry: dict[str, Any] = {
            "endpoint_id": endpoint,
            "metadata": {
                "display_name": "HiDream E1 Full",
                "category": "image-to-image",
                "description": "Edit a picture with words.",
                "status": "active",
                "tags": ["editing"],
                "model_url": f"{way.origin}/{endpoint}",
                "stream_url": f"{way.origin}/{endpoint}/stream",
            },
        }
        if expand:
            entry["openapi"] = queue_document(endpoint, way.queue_base, defaults)
        listed.append(entry)
    return JSONResponse({"models": listed, "has_more": False, "next_cursor": None})


def queue_document(endpoint: str, server: str, defaults: EditDefaults) -> dict[str, Any]:
    """OpenAPI 3.0 of submit, status, cancel and result; defaults are those of the loaded model."""
    requests = f"/{endpoint}/requests/{{request_id}}"
    identifier = {"name": "request_id", "in": "path", "required": True, "schema": {"type": "string"}}
    logs = {"name": "logs", "in": "query", "required": False, "schema": {"type": "number"}}
    return {
        "openapi": "3.0.4",
        "info": {
            "title": f"Queue OpenAPI for {endpoint}",
            "version": "1.0.0",
            "description": f"The OpenAPI schema for the {endpoint} queue.",
            "x-fal-metadata": {"endpointId": endpoint, "category": "image-to-image"},
        },
        "servers": [{"url": server}],
        "security": [{"apiKeyAuth": []}],
        "components": {
            "securitySchemes": {"apiKeyAuth": {"type": "apiKey", "in": "header", "name": "Authorization"}},
            "schemas": {
                "QueueStatus": _status_schema(),
                f"{NAME}Input": input_schema(defaults),
                f"{NAME}Output": _output_schema(),
                "Image": _image_schema(),
            },
        },
        "paths": {
            f"/{endpoint}": {
                "post": {
                    "operationId": "submit",
                    "requestBody": {"required": True, "content": _json(f"{NAME}Input")},
                    "responses": {"200": _answer("The request was accepted.", "QueueStatus"), **ERRORS_OF_SUBMIT},
                }
            },
            f"{requests}/status": {
                "get": {
                    "operationId": "status",
                    "parameters": [identifier, logs],
                    "responses": {
                        "200": _answer("Completed.", "QueueStatus"),
                        "202": _answer("Waiting or running.", "QueueStatus"),
                        **_problems("401", "404"),
                    },
                }
            },
            f"{requests}/cancel": {
                "put": {
                    "operationId": "cancel",
                    "parameters": [identifier],
                    "responses": {"202": {"description": "Cancellation requested."}, **_problems("400", "401", "404")},
                }
            },
            requests: {
                "get": {
                    "operationId": "result",
                    "parameters": [identifier],
                    "responses": {
                        "200": _answer("The output.", f"{NAME}Output"),
                        **_problems("400", "401", "404", "422", "499", "500", "503", "504"),
                    },
                }
            },
        },
    }


PROBLEMS = {
    "400": "Too early, too late, or malformed.",
    "401": "No valid key.",
    "404": "No such request.",
    "413": "The body is too large.",
    "422": "The input is wrong.",
    "429": "More requests wait than the caller allows.",
    "499": "The caller cancelled it.",
    "500": "The edit failed.",
    "503": "The runner was lost.",
    "504": "It did not start in time.",
}


def _problems(*statuses: str) -> dict[str, Any]:
    return {status: {"description": PROBLEMS[status]} for status in statuses}


ERRORS_OF_SUBMIT = _problems("400", "401", "413", "422", "429")


def input_schema(defaults: EditDefaults) -> dict[str, Any]:
    """Schema of the input; the order of the fields is the published one."""
    chosen: dict[str, Any] = {
        "negative_prompt": defaults.negative_prompt,
        "num_inference_steps": defaults.num_inference_steps,
        "guidance_scale": defaults.guidance_scale,
        "image_guidance_scale": defaults.image_guidance_scale,
        "num_images": defaults.num_images,
        "sync_mode": False,
        "enable_safety_checker": True,
        "output_format": "jpeg",
        "hidream_quality": defaults.quality.value,
    }
    properties: dict[str, Any] = {}
    for name in ORDER:
        field: dict[str, Any] = {"title": name.replace("_", " ").title(), "type": TYPES[name]}
        field["description"] = DESCRIPTIONS[name]
        if name in BOUNDS:
            field |= {"minimum": BOUNDS[name].ge, "maximum": BOUNDS[name].le}
        if name in chosen:
            field["default"] = chosen[name]
        properties[name] = field
    properties["output_format"]["enum"] = ["jpeg", "png"]
    properties["hidream_quality"] |= {"title": "Quality", "enum": [quality.value for quality in Quality]}
    properties["edit_instruction"]["examples"] = ["Convert the image into a 3D animated style."]
    return {
        "title": f"{NAME}Input",
        "type": "object",
        "required": ["image_url"],
        "properties": properties,
        "x-fal-order-properties": list(ORDER),
    }


def _output_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "images": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Image"},
            "description": "The pictures, in the order of their seeds.",
        },
        "timings": {
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "Seconds; `inference` is the time on the device.",
        },
        "seed": {"type": "integer", "description": "The seed that was used; chosen when it was left out."},
        "has_nsfw_concepts": {
            "type": "array",
            "items": {"type": "boolean"},
            "description": "For each picture whether it was flagged, and is black; empty without a checker.",
        },
        "prompt": {"type": "string", "description": "The words that the model was given."},
    }
    published = list(properties)
    properties["quality"] = {
        "type": "object",
        "description": "What was traded for time, and how many steps and branches of how many were computed anew; "
        "only there where the quality was not exact, or where the weights are kept in fewer bits.",
    }
    return {
        "title": f"{NAME}Output",
        "type": "object",
        "required": published,
        "properties": properties,
        "x-fal-order-properties": list(properties),
    }


def _image_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "url": {"type": "string", "description": "Where it lies, or a data URI with `sync_mode`."},
        "width": {"type": "integer", "description": "In pixels."},
        "height": {"type": "integer", "description": "In pixels."},
        "content_type": {"type": "string", "default": "image/jpeg", "description": "`image/jpeg` or `image/png`."},
    }
    return {
        "title": "Image",
        "type": "object",
        "required": ["url", "width", "height"],
        "properties": properties,
        "x-fal-order-properties": list(properties),
    }


def _status_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "title": "QueueStatus",
        "type": "object",
        "required": ["status", "request_id"],
        "properties": {
            "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
            "request_id": text,
            "response_url": text,
            "status_url": text,
            "cancel_url": text,
            "logs": {"type": "array", "nullable": True, "items": {"type": "object"}},
            "metrics": {"type": "object"},
            "queue_position": {"type": "integer"},
        },
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}
