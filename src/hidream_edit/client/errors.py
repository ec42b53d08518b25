"""Everything that can go wrong between a program and its server. The tree:

ClientError              the server answered something that fits nowhere below
├── NotReachable         no answer, after a few attempts
├── NotAllowed           no key, or one that does not open this
├── InputRefused         the picture or a field cannot be taken
├── EditFailed           the server tried and could not
├── Cancelled            somebody cancelled the request
├── TimedOut             it did not start, or did not end, in time
└── RequestNotFound      no request by that id, or another key's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Base of all errors of the client; its text says what to do. ``request_id`` names the request, once it has one."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class NotReachable(ClientError):
    """The server cannot be reached, or the connection broke and stayed broken."""


class NotAllowed(ClientError):
    """The server wants a key, or another one."""


class InputRefused(ClientError):
    """The input is wrong. ``field`` is its name on the wire, ``kind`` the machine-readable type of the first entry of
    ``details``."""

    def __init__(
        self,
        message: str,
        *,
        field: str,
        kind: str = "value_error",
        details: Sequence[Mapping[str, Any]] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.field, self.kind, self.details = field, kind, tuple(details)


class EditFailed(ClientError):
    """The edit was accepted and could not be done; ``kind`` is the machine-readable reason."""

    def __init__(self, message: str, *, kind: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.kind = kind


class Cancelled(ClientError):
    """The request was cancelled before it ended."""


class TimedOut(ClientError):
    """The request did not start within ``start_timeout``, or did not end within the client's ``timeout``."""


class RequestNotFound(ClientError):
    """No request by that id. Results are kept for a day, unless the server is told otherwise."""
