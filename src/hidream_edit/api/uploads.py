"""Uploads that are under way. Nothing is kept of them here: the place and its secret are computed from one key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from hidream_edit.domain.blobs import Access
from hidream_edit.domain.errors import BlobNotFound

UPLOAD_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Upload:
    """A promised place. ``token`` is signed and says everything that the place needs to know."""

    blob_id: str
    caller: str
    token: str
    content_type: str
    file_name: str
    keep_seconds: float | None
    until: float
    access: Access
    bytes_max: int | None  # of all that the caller has stored

    @property
    def seconds_left(self) -> float:
        """Until parts that were never joined may be deleted."""
        return max(1.0, self.until - time.time())

    def part_id(self, number: int) -> str:
        """Id of the blob that holds a part; cannot be guessed from the file's address."""
        return hashlib.sha256(f"{self.token}/{number}".encode()).hexdigest()


class Uploads:
    """Makes places and recognises them; any process with the same secret can."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def begin(
        self,
        caller: str,
        content_type: str,
        file_name: str,
        keep_seconds: float | None,
        *,
        access: Access = Access.ALLOW,
        bytes_max: int | None = None,
    ) -> Upload:
        """A new place."""
        until, blob_id = time.time() + UPLOAD_SECONDS, secrets.token_urlsafe(24)
        facts: list[object] = [
            blob_id, caller, content_type, file_name, keep_seconds, until, access.value, bytes_max,
        ]  # fmt: skip
        payload = base64.urlsafe_b64encode(json.dumps(facts).encode()).rstrip(b"=").decode()
        return self._opened(f"{payload}.{self._signature(payload)}", facts)

    def find(self, blob_id: str, token: str) -> Upload:
        """The place that a token opens.

        Raises:
            BlobNotFound: the token is not ours, is over, or belongs to another place.
        """
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(payload).encode()):
            raise BlobNotFound(blob_id)
        upload = self._opened(token, json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        if upload.blob_id != blob_id or upload.until <= time.time():
            raise BlobNotFound(blob_id)
        return upload

    def end(self, upload: Upload) -> None:
        """The file is stored. Its place stays open for a client that repeats its last request."""

    def _opened(self, token: str, facts: list[object]) -> Upload:
        blob_id, caller, content_type, file_name, keep_seconds, until, access, bytes_max = facts
        return Upload(
            str(blob_id),
            str(caller),
            token,
            str(content_type),
            str(file_name),
            None if keep_seconds is None else float(str(keep_seconds)),
            float(str(until)),
            Access(str(access)),
            None if bytes_max is None else int(str(bytes_max)),
        )

    def _signature(self, payload: str) -> str:
        return hmac.new(self._secret, payload.encode("utf-8", "replace"), "sha256").hexdigest()
