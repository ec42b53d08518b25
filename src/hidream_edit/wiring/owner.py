"""What the owner of a server does with it: keys and requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hidream_edit.domain.deliveries import DeliveryAttempt
from hidream_edit.domain.job import Event, Job
from hidream_edit.domain.keys import Key, KeyAction, Scope, new_key
from hidream_edit.domain.quotas import UNLIMITED, Quota
from hidream_edit.settings import ServerSettings
from hidream_edit.wiring.server_parts import ServerParts, open_parts


@contextmanager
def opened(settings: ServerSettings) -> Iterator[ServerParts]:
    """The server's store, for one command; a server may run at the same time."""
    parts = open_parts(settings)
    try:
        yield parts
    finally:
        parts.close()


def create_key(settings: ServerSettings, name: str, *, scope: Scope = Scope.USE, quota: Quota = UNLIMITED) -> str:
    """A new key's credential; this is the only time that anybody sees it."""
    with opened(settings) as parts:
        key, credential = new_key(name, now=time.time(), scope=scope, quota=quota)
        parts.keys.add(key)
        return credential


def key_actions(settings: ServerSettings, count: int) -> list[KeyAction]:
    """What was done with keys, the newest first."""
    with opened(settings) as parts:
        return parts.keys.actions(limit=count)


def list_keys(settings: ServerSettings) -> list[Key]:
    """All keys, the revoked ones too."""
    with opened(settings) as parts:
        return parts.keys.all()


def revoke_key(settings: ServerSettings, key_id: str) -> bool:
    """Whether there was one to revoke."""
    with opened(settings) as parts:
        return parts.keys.revoke(key_id, now=time.time())


def list_requests(settings: ServerSettings, count: int) -> list[Job]:
    """The requests that came last, newest first."""
    with opened(settings) as parts:
        return parts.store.recent(count)


def show_request(settings: ServerSettings, request_id: str) -> tuple[Job, list[Event], list[DeliveryAttempt]]:
    """A request, its log, and the calls of its webhook. Raises JobNotFound."""
    with opened(settings) as parts:
        store = parts.store
        return store.get(request_id), store.events(request_id), store.attempts(request_id)


def cancel_request(settings: ServerSettings, request_id: str) -> Job:
    """Raises JobNotFound, JobFinished."""
    with opened(settings) as parts:
        return parts.store.cancel(request_id, now=time.time())
