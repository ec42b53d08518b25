"""OpenAPI of this server: every route, as a caller with plain paths sees it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hidream_edit.api import wire
from hidream_edit.api.history import PAGE_MAX
from hidream_edit.api.links import LINK_SECONDS_MAX
from hidream_edit.api.openapi import NAME, queue_document
from hidream_edit.api.services import APP_IDS, services_of, way_of
from hidream_edit.domain.edit import EditDefaults
from hidream_edit.domain.quality import Quality
from hidream_edit.version import __version__

APP = APP_IDS[0]
REQUESTS = f"/queue/{APP}/requests/{{request_id}}"
UPLOAD = "/storage/upload/{blob_id}"
FILE = "/files/b/{blob_id}/{name}"
MULTIPART = f"{FILE}/multipart/{{upload_id}}"
TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
OUTCOMES = {
    "400": "A header or parameter cannot be read, or it is too early or too late for this.",
    "401": "No valid key.",
    "413": "More bytes than allowed, or than the key may store.",
    "422": "Something is wrong with the input; `detail` names the field.",
    "499": "The caller cancelled it.",
    "500": "The edit failed.",
    "503": "The request was not accepted, or its runner was lost.",
    "504": "It did not start in the time that the caller gave it.",
}
HEADERS = {
    wire.PRIORITY: ("normal (default) or low", {"type": "string", "enum": ["normal", "low"]}),
    wire.START_TIMEOUTS[1]: ("seconds in which it has to start", {"type": "string"}),
    wire.NO_RETRY: ("1: one attempt only", {"type": "string"}),
    wire.STORE_IO: ("0: delete input and output as soon as they were used", {"type": "string", "enum": ["0", "1"]}),
    wire.LIFECYCLES[0]: (
        "JSON with expiration_duration_seconds and initial_acl",
        {"type": "string"},
    ),
    wire.FILE_NAME: ("name that the file's address ends with", TEXT),
    wire.PREVIEWS: ("1: make previews while it runs, on the queue too", {"type": "string"}),
    wire.QUALITY: (
        "what may be traded for time, where the body does not say",
        {"type": "string", "enum": [quality.value for quality in Quality]},
    ),
    wire.RUNNER_HINT: ("quality=NAME says the same; other hints are ignored", TEXT),
    wire.IDEMPOTENCY: ("the same caller and key give the same request", {"type": "string"}),
}
SUMMARIES = {
    "run": "Edit, and answer when it is done.",
    "stream": "Edit, and send previews while it runs; the last event is the output.",
    "submit": "Put a request on the queue, durably.",
    "status": "Where a request stands.",
    "statusStream": "Tell each change of a request until it has ended.",
    "cancel": "Cancel a request: at once while it waits, at its next step while it runs.",
    "result": "The output of a request that has ended, or why there is none.",
    "response": "The same.",
    "initiateUpload": "Ask for a place for a file.",
    "initiateMultipart": "Ask for a place for a file in parts.",
    "putUpload": "Send the file to its place.",
    "putPart": "Send a part.",
    "completeMultipart": "Put the parts together.",
    "storageToken": "A token for uploads straight to the files.",
    "upload": "Upload a file in one call.",
    "beginMultipart": "Begin an upload in parts.",
    "putDirectPart": "Send a part.",
    "completeDirect": "Put the parts together.",
    "download": "Fetch a file, whole or a range of it.",
    "sign": "An address that opens a private file for a while; for its owner.",
    "token": "A token for a browser, which ends by itself.",
    "realtimeToken": "A token for a realtime socket.",
    "models": "The listing of models, as the platform gives it.",
    "queueDocument": "OpenAPI of the queue, as the platform gives it.",
    "about": "The version, and the loaded model with its device and examples.",
    "requests": "The caller's own requests, newest first.",
    "playground": "The web page.",
    "adminPage": "The owner's web page.",
    "playgroundFile": "A file of these pages.",
    "redeliver": "Call a webhook again; for keys with the scope admin.",
    "overview": "Runners, requests, keys and webhooks; for keys with the scope admin.",
    "serverDocument": "OpenAPI of this server.",
    "health": "The process answers.",
    "live": "The process answers.",
    "ready": "Whether a runner works on jobs.",
    "metrics": "Numbers for Prometheus: to programs on this machine, and to keys with the scope admin.",
    "keySet": "The public key that webhooks are signed with.",
}
Schema = dict[str, Any]


async def document(request: Request) -> Response:
    """The document, with the defaults of the loaded model and the address that the caller used."""
    return JSONResponse(server_document(way_of(request).origin, services_of(request).defaults()))


def server_document(origin: str, defaults: EditDefaults) -> Schema:
    """OpenAPI 3.0 of all routes."""
    components = queue_document(APP, origin, defaults)["components"]
    components["schemas"] |= {
        "Problem": {
            "title": "Problem",
            "type": "object",
            "description": "A text, or a list that names fields.",
            "properties": {"detail": {}, "error_type": TEXT, "status": TEXT},
        },
        "Token": {"title": "Token", "type": "string"},
    }
    return {
        "openapi": "3.0.4",
        "info": {
            "title": "hidream-edit",
            "version": __version__,
            "description": "Edit pictures with words: the protocol of a hosted endpoint, on your own machine.",
        },
        "servers": [{"url": origin}],
        "security": [{"apiKeyAuth": []}, {}],
        "components": components,
        "paths": {
            **_under("Edits", _edit_paths()),
            **_under("Uploads", _upload_paths()),
            **_under("Files", _file_paths()),
            **_under("Tokens, pages and the owner", _other_paths()),
        },
    }


def _edit_paths() -> dict[str, Schema]:
    edit = _json_body(_reference(f"{NAME}Input"))
    headers = [_header(name) for name in HEADERS if name != wire.FILE_NAME]
    queries = [
        _query("fal_webhook", "address that is told of the end", TEXT),
        _query("fal_max_queue_length", "refuse when more requests wait", {"type": "integer", "minimum": 0}),
    ]
    output, status = _reference(f"{NAME}Output"), _reference("QueueStatus")
    one, logs = _path_parameter("request_id"), _query("logs", "1: with log lines", {"type": "string"})
    previews = _query("previews", "1: with previews as data URIs, where the submit asked for them", {"type": "string"})
    event = {"type": "object", "required": ["data"], "properties": {"data": TEXT}}
    events = {"200": {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": event}}}}
    known, accepted = _problems("401", "404"), {"202": _answer("Waiting or running.", status)}
    asked = {"type": "object", "properties": {"status": TEXT}}
    result = _call("result", _answers(output, *OUTCOMES, "404"), [one])
    return {
        f"/{APP}": {"post": _call("run", _answers(output, *OUTCOMES, "429"), headers, edit)},
        f"/{APP}/stream": {
            "post": _call("stream", events | _problems("400", "401", "413", "422", "429"), headers, edit)
        },
        f"/queue/{APP}": {
            "post": _call(
                "submit", _answers(status, "400", "401", "413", "422", "429", "503"), [*queries, *headers], edit
            )
        },
        f"{REQUESTS}/status": {"get": _call("status", {**_answers(status), **accepted, **known}, [one, logs])},
        f"{REQUESTS}/status/stream": {"get": _call("statusStream", events | known, [one, logs, previews])},
        f"{REQUESTS}/cancel": {
            "put": _call(
                "cancel", {"202": _answer("Cancellation requested.", asked), **_problems("400"), **known}, [one]
            )
        },
        REQUESTS: {"get": result},
        f"{REQUESTS}/response": {"get": {**result, "operationId": "response", "summary": SUMMARIES["response"]}},
    }


def _upload_paths() -> dict[str, Schema]:
    begin = _json_body({"type": "object", "properties": {"content_type": TEXT, "file_name": TEXT}})
    promised = {"type": "object", "required": ["upload_url", "file_url"], "properties": {}}
    blob, number, secret = (
        _path_parameter("blob_id"),
        _path_parameter("number", WHOLE),
        _query("token", "the secret of the place", TEXT),
    )
    stored = {"type": "object", "properties": {"file_url": TEXT, "access_url": TEXT}}
    refused = ("400", "404", "413", "422")
    return {
        "/storage/upload/initiate": {
            "post": _call("initiateUpload", _answers(promised, "401", "413", "422"), [_lifecycle()], begin)
        },
        "/storage/upload/initiate-multipart": {
            "post": _call("initiateMultipart", _answers(promised, "401", "413", "422"), [_lifecycle()], begin)
        },
        UPLOAD: {"put": _call("putUpload", _answers(stored, *refused), [blob, secret], _bytes_body())},
        f"{UPLOAD}/{{number}}": {
            "put": _call("putPart", _answers(_part(), *refused), [blob, number, secret], _bytes_body())
        },
        f"{UPLOAD}/complete": {
            "post": _call("completeMultipart", _answers(stored, *refused), [blob, secret], _parts_body())
        },
        "/storage/auth/token": {"post": _call("storageToken", _answers({"type": "object"}, "401"))},
    }


def _file_paths() -> dict[str, Schema]:
    place = [_path_parameter("blob_id"), _path_parameter("name"), _path_parameter("upload_id")]
    access = {"type": "object", "required": ["access_url"], "properties": {"access_url": TEXT, "uploadId": TEXT}}
    refused = ("400", "401", "404", "413", "422")
    found = {
        "200": _bytes_answer("The file."),
        "206": _bytes_answer("A part of it."),
        "304": {"description": "Unchanged."},
        "416": {"description": "No such range."},
        **_problems("403", "404"),
    }
    signed = [_query("expires", "end of a signed address, Unix seconds", TEXT), _query("signature", "its proof", TEXT)]
    lifetime = {"type": "object", "properties": {"expiration_seconds": {"type": "number", "maximum": LINK_SECONDS_MAX}}}
    link = {"type": "object", "required": ["url", "expires_at"], "properties": {"url": TEXT, "expires_at": TEXT}}
    named = [_header(wire.FILE_NAME), _lifecycle()]
    return {
        "/files/upload": {"post": _call("upload", _answers(access, "400", "401", "413", "422"), named, _bytes_body())},
        "/files/upload/multipart": {"post": _call("beginMultipart", _answers(access, "401"), named)},
        f"{MULTIPART}/{{number}}": {
            "put": _call(
                "putDirectPart", _answers(_part(), *refused), [*place, _path_parameter("number", WHOLE)], _bytes_body()
            )
        },
        f"{MULTIPART}/complete": {"post": _call("completeDirect", _answers(access, *refused), place, _parts_body())},
        FILE: {"get": _call("download", found, [*place[:2], _range(), *signed])},
        f"{FILE}/sign": {"post": _call("sign", _answers(link, *refused), place[:2], _json_body(lifetime))},
    }


def _other_paths() -> dict[str, Schema]:
    lifetime = _json_body(
        {"type": "object", "properties": {"token_expiration": {"type": "number", "maximum": 3600}, "allowed_apps": {}}}
    )
    anything = {"type": "object"}
    token_refused = ("400", "401", "413", "422")
    ready = {"200": _answer("Ready.", anything), "503": _answer("Not ready; `status` says why.", anything)}
    numbers = {"200": {"description": "For Prometheus.", "content": {"text/plain": {"schema": TEXT}}}}
    endpoint = _query("endpoint_id", "of which endpoint", TEXT)
    pages = [
        _query("limit", "how many", {"type": "integer", "minimum": 1, "maximum": PAGE_MAX}),
        _query("before", "as the last page said", WHOLE),
        _query("search", "words of an instruction", TEXT),
    ]
    return {
        "/tokens/": {"post": _call("token", _answers(_reference("Token"), *token_refused), body=lifetime)},
        "/tokens/realtime": {"post": _call("realtimeToken", _answers(anything, *token_refused), body=lifetime)},
        "/v1/models": {
            "get": _call(
                "models", _answers(anything), [endpoint, _query("expand", "openapi-3.0: with its OpenAPI", TEXT)]
            )
        },
        "/api/openapi/queue/openapi.json": {"get": _call("queueDocument", _answers(anything, "404"), [endpoint])},
        "/v1/about": {"get": _call("about", _answers(anything))},
        "/v1/requests": {"get": _call("requests", _answers(anything, "400", "401"), pages)},
        "/": {"get": _call("playground", {"200": _bytes_answer("The web page.")})},
        "/admin": {"get": _call("adminPage", {"200": _bytes_answer("The owner's web page.")})},
        "/playground/{name}": {
            "get": _call(
                "playgroundFile",
                {"200": _bytes_answer("A file of the page."), "404": {"description": "No such file."}},
                [_path_parameter("name")],
            )
        },
        "/admin/deliveries/{request_id}/redeliver": {
            "post": _call(
                "redeliver",
                {"202": _answer("Due again.", anything), **_problems("401", "403", "404")},
                [_path_parameter("request_id")],
            )
        },
        "/admin/overview": {"get": _call("overview", _answers(anything, "401", "403"))},
        "/openapi.json": {"get": _call("serverDocument", _answers(anything))},
        "/health": {"get": _call("health", _answers(anything))},
        "/health/live": {"get": _call("live", _answers(anything))},
        "/health/ready": {"get": _call("ready", ready)},
        "/metrics": {"get": _call("metrics", numbers | _problems("401", "403"))},
        "/.well-known/jwks.json": {"get": _call("keySet", _answers(anything))},
    }


def _under(tag: str, paths: dict[str, Schema]) -> dict[str, Schema]:
    return {
        path: {method: {"tags": [tag], **call} for method, call in methods.items()} for path, methods in paths.items()
    }


def _call(
    operation: str, responses: Schema, parameters: list[Schema] | None = None, body: Schema | None = None
) -> Schema:
    call: Schema = {"operationId": operation, "summary": SUMMARIES[operation], "parameters": parameters or []}
    call["responses"] = responses
    return call if body is None else call | {"requestBody": body}


def _answers(schema: Schema, *problems: str) -> Schema:
    return {"200": _answer("As asked.", schema), **_problems(*problems)}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: str) -> Schema:
    words = OUTCOMES | {
        "403": "The key does not open this.",
        "404": "Not found.",
        "429": "A quota of the key is used up, or more requests wait than the caller allows.",
    }
    return {status: _answer(words[status], _reference("Problem")) for status in statuses}


def _reference(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def _json_body(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _bytes_body() -> Schema:
    return {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }


def _bytes_answer(description: str) -> Schema:
    return {"description": description, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}


def _parts_body() -> Schema:
    part = {"type": "object", "required": ["partNumber"], "properties": {"partNumber": WHOLE, "etag": TEXT}}
    return _json_body(
        {"type": "object", "required": ["parts"], "properties": {"parts": {"type": "array", "items": part}}}
    )


def _part() -> Schema:
    return {"type": "object", "required": ["partNumber", "etag"], "properties": {"partNumber": WHOLE, "etag": TEXT}}


def _header(name: str) -> Schema:
    words, schema = HEADERS[name]
    return {"name": name, "in": "header", "required": False, "description": words, "schema": schema}


def _lifecycle() -> Schema:
    return _header(wire.LIFECYCLES[0])


def _range() -> Schema:
    return {"name": "range", "in": "header", "required": False, "description": "bytes=first-last", "schema": TEXT}


def _query(name: str, words: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


def _path_parameter(name: str, schema: Schema = TEXT) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}
