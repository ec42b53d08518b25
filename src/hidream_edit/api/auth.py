"""Who is calling: key → caller."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from starlette.datastructures import Headers, QueryParams

from hidream_edit.domain.errors import HidreamEditError
from hidream_edit.domain.keys import Key, KeyStore, Scope, opens
from hidream_edit.domain.quotas import UNLIMITED, Quota

ANONYMOUS = "anonymous"
KEYS_REMEMBERED, SECONDS_REMEMBERED, SECONDS_OPEN = 1000, 5.0, 1.0
TOKEN_QUERY = "fal_jwt_token"  # noqa: S105 - the name of a parameter


class NotAuthenticated(HidreamEditError):
    """No key, or one that opens nothing."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Owner of the key that was presented."""

    id: str
    scope: Scope = Scope.USE
    quota: Quota = UNLIMITED


class NotAllowed(HidreamEditError):
    """The key is valid, but not for this."""


class Authenticator:
    """Checks credentials. Without any stored key everybody is one anonymous caller, where ``open_without_keys``."""

    def __init__(
        self, keys: KeyStore, *, open_without_keys: bool, token_secret: bytes, quota: Quota | None = None
    ) -> None:
        self._keys, self._open, self._token_secret = keys, open_without_keys, token_secret
        self._quota = quota or UNLIMITED  # of whoever has none of their own
        self._remembered: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._has_no_keys_until = 0.0

    async def caller(self, headers: Headers, query: QueryParams) -> Caller:
        """The caller behind a request.

        Raises:
            NotAuthenticated: nobody we know.
        """
        token = query.get(TOKEN_QUERY)
        if token is not None:
            return await self._caller_of_token(token)
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and credential.count(".") == 1:
            return await self._caller_of_token(credential.strip())
        if scheme.lower() in ("key", "bearer") and credential:
            return await self._caller_of_key(credential.strip())
        if await self._is_open():
            return self._anonymous
        raise NotAuthenticated

    def all_keys(self) -> list[Key]:
        """For their owner; the revoked ones too."""
        return self._keys.all()

    async def _is_open(self) -> bool:
        """Whether nobody needs a key; the first key closes the door within a second."""
        if not self._open:
            return False
        if time.monotonic() >= self._has_no_keys_until:
            if not await asyncio.to_thread(self._keys.is_empty):
                return False
            self._has_no_keys_until = time.monotonic() + SECONDS_OPEN
        return True

    @property
    def _anonymous(self) -> Caller:
        """Whoever stands at a server without keys is its owner."""
        return Caller(ANONYMOUS, Scope.ADMIN, self._quota)

    def _caller(self, key: Key) -> Caller:
        own, common = key.quota, self._quota
        rate = common.rate_per_minute if own.rate_per_minute is None else own.rate_per_minute
        concurrent = common.concurrent_max if own.concurrent_max is None else own.concurrent_max
        stored = common.bytes_max if own.bytes_max is None else own.bytes_max
        return Caller(key.id, key.scope, Quota(rate, concurrent, stored))

    def _recall(self, name: str) -> Caller | None:
        remembered = self._remembered.get(name)
        return remembered[1] if remembered is not None and remembered[0] > time.monotonic() else None

    def _remember(self, name: str, caller: Caller) -> Caller:
        self._remembered[name] = (time.monotonic() + SECONDS_REMEMBERED, caller)
        while len(self._remembered) > KEYS_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    async def _caller_of_key(self, credential: str) -> Caller:
        # A key is looked up once in a few seconds, not with every poll; a revoked one works that much longer.
        digest = hashlib.sha256(credential.encode()).hexdigest()
        if (known := self._recall(digest)) is not None:
            return known
        key_id, _, secret = credential.partition(":")
        key = await asyncio.to_thread(self._keys.find, key_id)
        if key is None or not opens(key, secret):
            if await self._is_open():
                return self._anonymous  # clients insist on sending some key
            raise NotAuthenticated
        return self._remember(digest, self._caller(key))

    def token_for(self, caller: Caller, *, seconds: float) -> str:
        """A short-lived token that stands for ``caller``: a payload and its signature."""
        payload = _coded(json.dumps({"caller": caller.id, "until": time.time() + seconds}).encode())
        return f"{payload}.{self._signature(payload)}"

    async def _caller_of_token(self, token: str) -> Caller:
        """Who asked for it, with what that key may do now; a token ends with its key."""
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(signature, self._signature(payload)):
            raise NotAuthenticated
        facts = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if facts["until"] <= time.time():
            raise NotAuthenticated
        caller_id = str(facts["caller"])
        if caller_id == ANONYMOUS:
            return replace(self._anonymous, scope=Scope.USE)
        if (known := self._recall(caller_id)) is not None:
            return known
        key = await asyncio.to_thread(self._keys.find, caller_id)
        if key is None:
            raise NotAuthenticated
        return self._remember(caller_id, replace(self._caller(key), scope=Scope.USE))

    def _signature(self, payload: str) -> str:
        return _coded(hmac.digest(self._token_secret, payload.encode("utf-8", "replace"), "sha256"))


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
