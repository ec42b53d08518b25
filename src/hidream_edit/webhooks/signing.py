"""Signatures of webhooks (api.md 6): Ed25519 over request id, user id, timestamp and the hash of the body."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

USER_ID = "self-hosted"


def new_private_key() -> bytes:
    """32 bytes."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )


def signed_headers(private_key: bytes, request_id: str, body: bytes, *, now: float) -> Mapping[str, str]:
    """The four headers that a receiver verifies. The timestamp is part of what is signed, so each try signs anew."""
    timestamp = str(int(now))
    message = "\n".join((request_id, USER_ID, timestamp, hashlib.sha256(body).hexdigest())).encode()
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(message)
    return {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": USER_ID,
        "X-Fal-Webhook-Timestamp": timestamp,
        "X-Fal-Webhook-Signature": signature.hex(),
    }


def key_set(private_key: bytes) -> dict[str, Any]:
    """The public key as a JWKS. ``x`` keeps its padding: the documented Python verifier fails without it."""
    public = Ed25519PrivateKey.from_private_bytes(private_key).public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    name = hashlib.sha256(raw).hexdigest()[:16]
    encoded = base64.urlsafe_b64encode(raw).decode()
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": encoded, "kid": name, "use": "sig", "alg": "EdDSA"}]}
