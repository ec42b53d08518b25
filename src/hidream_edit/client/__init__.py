"""A server's edits from Python programs: `Client` waits, `AsyncClient` awaits."""

from hidream_edit.client.async_client import AsyncClient
from hidream_edit.client.client import Client
from hidream_edit.client.edit import Edit
from hidream_edit.client.errors import (
    Cancelled,
    ClientError,
    EditFailed,
    InputRefused,
    NotAllowed,
    NotReachable,
    RequestNotFound,
    TimedOut,
)
from hidream_edit.client.statuses import Done, LogLine, Preview, Queued, Running, Submitted

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "ClientError",
    "Done",
    "Edit",
    "EditFailed",
    "InputRefused",
    "LogLine",
    "NotAllowed",
    "NotReachable",
    "Preview",
    "Queued",
    "RequestNotFound",
    "Running",
    "Submitted",
    "TimedOut",
]
