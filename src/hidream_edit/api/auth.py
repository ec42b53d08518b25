"""Who is calling: key → caller."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers, QueryParams

from hidream_edit.domain.errors import HidreamEditError
from hidream_edit.domain.keys import KeyStore, opens

ANONYMOUS = "anonymous"
KEYS_REMEMBERED, SECONDS_REMEMBERED, SECONDS_OPEN = 1000, 5.0, 1.0
TOKEN_QUERY = "fal_jwt_token"  # noqa: S105 - the name of a parameter


class NotAuthenticated(HidreamEditError):
    """No key, or one that opens nothing."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Owner of the key that was presented."""

    id: str


class Authenticator:
    """Checks credentials. Without any stored key everybody is one anonymous caller, where ``open_without_keys``."""

    def __init__(self, keys: KeyStore, *, open_without_keys: bool, token_secret: bytes) -> None:
        self._keys, self._open, self._token_secret = keys, open_without_keys, token_secret
        self._remembered: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._has_no_keys_until = 0.0

    async def caller(self, headers: Headers, query: QueryParams) -> Caller:
        """The caller behind a request.

        Raises:
            NotAuthenticated: nobody we know.
        """
        token = query.get(TOKEN_QUERY)
        if token is not None:
            return Caller(self._caller_of_token(token))
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and credential.count(".") == 1:
            return Caller(self._caller_of_token(credential.strip()))
        if scheme.lower() in ("key", "bearer") and credential:
            return Caller(await self._caller_of_key(credential.strip()))
        if await self._is_open():
            return Caller(ANONYMOUS)
        raise NotAuthenticated

    async def _is_open(self) -> bool:
        """Whether nobody needs a key; the first key closes the door within a second."""
        if not self._open:
            return False
        if time.monotonic() >= self._has_no_keys_until:
            if not await asyncio.to_thread(self._keys.is_empty):
                return False
            self._has_no_keys_until = time.monotonic() + SECONDS_OPEN
        return True

    async def _caller_of_key(self, credential: str) -> str:
        # A key is looked up once in a few seconds, not with every poll; a revoked one works that much longer.
        digest = hashlib.sha256(credential.encode()).hexdigest()
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[0] > time.monotonic():
            return remembered[1]
        key_id, _, secret = credential.partition(":")
        key = await asyncio.to_thread(self._keys.find, key_id)
        if key is None or not opens(key, secret):
            if await self._is_open():
                return ANONYMOUS  # clients insist on sending some key
            raise NotAuthenticated
        self._remembered[digest] = (time.monotonic() + SECONDS_REMEMBERED, key.id)
        while len(self._remembered) > KEYS_REMEMBERED:
            self._remembered.popitem(last=False)
        return key.id

    def token_for(self, caller: Caller, *, seconds: float) -> str:
        """A short-lived token that stands for ``caller``: a payload and its signature."""
        payload = _coded(json.dumps({"caller": caller.id, "until": time.time() + seconds}).encode())
        return f"{payload}.{self._signature(payload)}"

    def _caller_of_token(self, token: str) -> str:
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(signature, self._signature(payload)):
            raise NotAuthenticated
        facts = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if facts["until"] <= time.time():
            raise NotAuthenticated
        return str(facts["caller"])

    def _signature(self, payload: str) -> str:
        return _coded(hmac.digest(self._token_secret, payload.encode("utf-8", "replace"), "sha256"))


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
