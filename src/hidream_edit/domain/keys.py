"""Keys of callers: what they look like and how they are checked."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hidream_edit.domain.quotas import UNLIMITED, Quota

SECRET_BYTES = 32


class Scope(StrEnum):
    """What a key opens."""

    USE = "use"  # the caller's own requests and files
    ADMIN = "admin"  # that, and looking at the whole server


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key; its id is what jobs call their caller."""

    id: str
    name: str
    secret_hash: str
    created_at: float
    revoked_at: float | None = None
    scope: Scope = Scope.USE
    quota: Quota = UNLIMITED  # what is None in it is left to the server


@dataclass(frozen=True, slots=True)
class KeyAction:
    """A line of the audit trail."""

    key_id: str
    at: float
    action: str


def new_key(name: str, *, now: float, scope: Scope = Scope.USE, quota: Quota | None = None) -> tuple[Key, str]:
    """A key and its credential ``id:secret``, which is shown once and never stored."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(SECRET_BYTES)
    key = Key(key_id, name, hash_of(secret), now, scope=scope, quota=quota or UNLIMITED)
    return key, f"{key_id}:{secret}"


def hash_of(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def opens(key: Key, secret: str) -> bool:
    """Whether ``secret`` belongs to ``key``, in a time that tells nothing."""
    return key.revoked_at is None and hmac.compare_digest(key.secret_hash, hash_of(secret))


class KeyStore(Protocol):
    """Where keys are kept."""

    def add(self, key: Key) -> None:
        """Keep a key."""

    def find(self, key_id: str) -> Key | None:
        """The key by that id, unless it was revoked."""

    def all(self) -> list[Key]:
        """All keys, the revoked ones too."""

    def is_empty(self) -> bool:
        """Whether there never was a key; a revoked one counts, or revoking the last would open the door."""

    def revoke(self, key_id: str, *, now: float) -> bool:
        """Whether there was one to revoke."""

    def actions(self, *, limit: int) -> list[KeyAction]:
        """What was done with keys, the newest first."""
