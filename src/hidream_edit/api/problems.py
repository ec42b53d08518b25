"""Every way in which this server says no: the type on the wire, its status, what it means, and what helps.

``docs/reference/errors.md`` is written from these tables.
"""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """One line; the first of its statuses is the usual one."""

    statuses: tuple[int, ...]
    meaning: str
    advice: str


WRONG_VALUE = "send what the field takes"
# Types of entries of `detail`: the body, before a request is run. On the queue the request is accepted and has failed.
OF_INPUT = {
    "json_invalid": Problem((422,), "the body is not JSON", "send a JSON object"),
    "dict_type": Problem((422,), "the body is JSON and not an object", "send a JSON object"),
    "missing": Problem((422,), "a field that has to be there is not", "send `image_url`"),
    "string_type": Problem((422,), "not a text", WRONG_VALUE),
    "int_type": Problem((422,), "not a whole number", WRONG_VALUE),
    "int_parsing": Problem((422,), "a text that is no whole number", WRONG_VALUE),
    "int_parsing_size": Problem((422,), "a text with too many digits", WRONG_VALUE),
    "int_from_float": Problem((422,), "a number with a fraction where a whole one belongs", WRONG_VALUE),
    "float_type": Problem((422,), "not a number", WRONG_VALUE),
    "float_parsing": Problem((422,), "a text that is no number", WRONG_VALUE),
    "finite_number": Problem((422,), "infinite, or not a number", WRONG_VALUE),
    "bool_type": Problem((422,), "neither true nor false", WRONG_VALUE),
    "bool_parsing": Problem((422,), "a text that is neither true nor false", WRONG_VALUE),
    "greater_than_equal": Problem((422,), "too small; `ctx.ge` is the smallest", "stay inside the bounds"),
    "less_than_equal": Problem((422,), "too large; `ctx.le` is the largest", "stay inside the bounds"),
    "literal_error": Problem((422,), "not one of the words that the field takes", "`ctx.expected` names them"),
}
# Types of entries of `detail`: the picture, or what the loaded model cannot do; found while the request runs.
OF_PICTURES = {
    "file_download_error": Problem(
        (422,),
        "`image_url` gave no picture; one text for every reason, so that it tells nothing about the server's network",
        "open the address yourself, or upload the picture",
    ),
    "file_too_large": Problem((422,), "the file has too many bytes; `ctx.max_size` are allowed", "make it smaller"),
    "image_load_error": Problem(
        (422,), "damaged, cut short, or not a picture; also one that takes too much to decode", "send another file"
    ),
    "unsupported_image_format": Problem(
        (422,), "a format that is not taken; `ctx.supported_formats` are", "convert it, to PNG for instance"
    ),
    "image_too_large": Problem((422,), "too many pixels, or too long a side; `ctx` has the limits", "make it smaller"),
    "content_policy_violation": Problem(
        (422,), "the safety checker flagged the source", "send another picture, or switch the checker off"
    ),
    "feature_not_supported": Problem((422,), "the loaded model cannot do this", "the text says which model can"),
    "value_error": Problem((422,), "a value that fits no other type", "the text names it and says what to change"),
}
# What becomes of a request that was accepted; the type is also in the header `x-fal-error-type`.
OF_REQUESTS = {
    "request_timeout": Problem(
        (504,), "not started in the time that the caller gave it", "give it longer, or come when fewer wait"
    ),
    "runner_disconnected": Problem(
        (503,), "its runner was lost, as often as it may be tried", "try again; the owner looks at the runner's log"
    ),
    "internal_server_error": Problem((500,), "the edit failed", "the server's log says why; report it"),
    "client_cancelled": Problem((499,), "its caller, or the server's owner, cancelled it", ""),
    "downstream_service_error": Problem(
        (400,), "of the hosted contract; this version does not send it", "treat it as the hosted service's"
    ),
}
# What is wrong with a call, whatever it asks for; the type is also in the header `x-fal-error-type`.
OF_CALLS = {
    "bad_request": Problem(
        (400, 413),
        "400: a header or parameter that cannot be read; 413: more bytes than allowed, or than the key may store",
        "the text names it",
    ),
    "concurrent_requests_limit": Problem(
        (429,),
        "a quota of the key is used up, or more wait than `fal_max_queue_length`",
        "wait for as long as `retry-after` says, where it is there",
    ),
    "internal_error": Problem(
        (503,), "database or bucket do not answer, so nothing was accepted", "try again; the clients do by themselves"
    ),
}
# Answers whose body has no type.
WITHOUT_TYPE = {
    '`{"detail": "Cannot access application…"}`': Problem((401,), "no valid key", "send `Authorization: Key …`"),
    '`{"detail": …}`': Problem((403,), "the key does not open this", "use its owner's key, or one with the scope"),
    '`{"status": "NOT_FOUND"}`': Problem(
        (404,), "no such request, or another caller's", "check the id; results go after a day"
    ),
    '`{"detail": "File not found"}`': Problem((404,), "no such file, or its time is over", "fetch files sooner"),
    '`{"detail": "Path … not found"}`': Problem((404,), "no such path", "[the routes](routes.md)"),
    '`{"detail": "Method Not Allowed"}`': Problem((405,), "no such method on this path", "[the routes](routes.md)"),
    '`{"status": "ALREADY_COMPLETED"}`': Problem(
        (400,), "cancelled too late: the request has ended", "fetch its result"
    ),
    '`{"detail": "Request is still in progress"}`': Problem(
        (400,), "the result was asked for too early", "ask for the status first"
    ),
    '`{"detail": "Internal Server Error"}`': Problem((500,), "a fault of this server", "its log says where; report it"),
}
STATUS_OF_KIND = {kind: problem.statuses[0] for kind, problem in (OF_INPUT | OF_PICTURES | OF_REQUESTS).items()}
