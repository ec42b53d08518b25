"""Addresses of files. Those of private files carry a signature and an end."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping

from hidream_edit.domain.blobs import Access

FILES_PATH = "/files/b/"
LINK_SECONDS, LINK_SECONDS_MAX = 3600.0, 7 * 24 * 3600.0
EXPIRES, SIGNATURE = "expires", "signature"


class Links:
    """Signs addresses and recognises them; any process with the same secret can."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def url(self, origin: str, blob_id: str, name: str, *, access: Access, now: float) -> str:
        """Where a file lies; for a private one an address that opens it for an hour."""
        place = f"{origin}{FILES_PATH}{blob_id}/{name}"
        return place if access is Access.ALLOW else f"{place}?{self.query(blob_id, now + LINK_SECONDS)}"

    def query(self, blob_id: str, until: float) -> str:
        """What opens a private file until then; Unix seconds."""
        expires = str(math.ceil(until))
        return f"{EXPIRES}={expires}&{SIGNATURE}={self._signature(blob_id, expires)}"

    def opens(self, blob_id: str, query: Mapping[str, str], *, now: float) -> bool:
        """Whether an address carries a signature of ours that is not over."""
        expires, signature = query.get(EXPIRES, ""), query.get(SIGNATURE, "")
        is_ours = hmac.compare_digest(signature.encode(), self._signature(blob_id, expires).encode())
        return is_ours and int(expires) > now

    def _signature(self, blob_id: str, expires: str) -> str:
        return hmac.new(self._secret, f"file/{blob_id}/{expires}".encode("utf-8", "replace"), "sha256").hexdigest()
