"""What the routes work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from hidream_edit.api.auth import Authenticator, Caller
from hidream_edit.api.doors import HOSTS, Way
from hidream_edit.api.links import Links
from hidream_edit.domain.blobs import Access, BlobStore
from hidream_edit.domain.edit import EditDefaults
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.safety import UNCHECKED
from hidream_edit.queue.submitter import Submitter
from hidream_edit.queue.watcher import Watcher
from hidream_edit.telemetry.meters import Meters
from hidream_edit.telemetry.traces import NO_TRACES, Tracer

APP_IDS = ("fal-ai/hidream-e1-full",)


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What one request may cost, and how long things are kept."""

    body_bytes_max: int = 80 * 2**20  # a 50 MiB picture as a data URI, and room for the rest
    upload_bytes_max: int = 2 * 2**30
    result_keep_seconds: float = 24 * 3600.0
    upload_keep_seconds: float = 7 * 24 * 3600.0
    file_access: Access = Access.ALLOW  # to files whose caller does not say
    attempts_max: int = 3
    ping_seconds: float = 15.0
    realtime_idle_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether jobs are being worked on, in words: loading, warming, ready, draining, runner dead, no runner here."""

    word: str
    is_ready: bool
    safety: str = UNCHECKED  # what pictures are checked with


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the routes."""

    store: JobStore
    blobs: BlobStore
    watcher: Watcher
    submitter: Submitter
    auth: Authenticator
    readiness: Callable[[], Readiness]
    clock: Callable[[], float]
    links: Links
    defaults: Callable[[], EditDefaults] = EditDefaults  # of the model that runners have loaded
    meters: Meters = field(default_factory=Meters)
    tracer: Tracer = NO_TRACES
    limits: ApiLimits = field(default_factory=ApiLimits)
    file_hosts: frozenset[str] = frozenset(HOSTS)  # names that our files may go under


def services_of(connection: HTTPConnection) -> Services:
    """The services of the app that a request came to."""
    services: Services = connection.app.state.services
    return services


def way_of(connection: HTTPConnection) -> Way:
    """How a request came in."""
    way: Way = connection.scope["state"]["way"]
    return way


async def caller_of(connection: HTTPConnection) -> Caller:
    """Who calls, and whether the app in the path exists, in this order.

    Raises:
        NotAuthenticated: nobody we know.
        HTTPException: no such app.
    """
    caller = await services_of(connection).auth.caller(connection.headers, connection.query_params)
    path = connection.path_params
    if "owner" in path and f"{path['owner']}/{path['app']}" not in APP_IDS:
        raise HTTPException(404)
    return caller
