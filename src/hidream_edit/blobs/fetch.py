"""Download a picture from an address that a stranger chose, without reaching into the network we stand in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from hidream_edit.domain.errors import FetchFailed, PictureTooLarge
from hidream_edit.outgoing.guarded import AddressRefused, Resolve, pinned, resolve

REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; hidream-edit)", "Accept": "image/*,*/*;q=0.5"}
# One text for whatever goes wrong: it tells a stranger nothing about the network behind us.
UNREACHABLE = "the address could not be downloaded; it has to be public and answer with a picture"


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one download may cost. ``allowed``: networks that may be reached although they are not public."""

    bytes_max: int = 50 * 2**20
    seconds_max: float = 30.0
    redirects_max: int = 5
    allowed: tuple[str, ...] = ()


def fetch(
    url: str,
    *,
    limits: FetchLimits,
    resolve_host: Resolve = resolve,
    transport: httpx.BaseTransport | None = None,
) -> bytes:
    """The bytes at ``url``. The address is resolved once, checked, and that very address is connected; each redirect
    is checked again.

    Raises:
        FetchFailed: refused, unreachable, too slow, or not a success.
        PictureTooLarge: more bytes than allowed.
    """
    deadline = time.monotonic() + limits.seconds_max
    with httpx.Client(transport=transport, timeout=limits.seconds_max, trust_env=False) as client:
        for _ in range(limits.redirects_max + 1):
            try:
                request = pinned(client, "GET", url, allowed=limits.allowed, resolve_host=resolve_host, headers=HEADERS)
                response = client.send(request, stream=True)
                try:
                    if response.status_code in REDIRECTS and "location" in response.headers:
                        url = urljoin(url, response.headers["location"])
                        continue
                    if not response.is_success:
                        raise FetchFailed(UNREACHABLE)
                    return _body(response, limits, deadline)
                finally:
                    response.close()
            except (httpx.HTTPError, httpx.InvalidURL, AddressRefused) as problem:
                raise FetchFailed(UNREACHABLE) from problem
    raise FetchFailed(UNREACHABLE)


def _body(response: httpx.Response, limits: FetchLimits, deadline: float) -> bytes:
    pieces, size = [], 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > limits.bytes_max:
            raise PictureTooLarge(
                f"the picture has more than the {limits.bytes_max:,} bytes allowed",
                kind="file_too_large",
                context={"max_size": limits.bytes_max},
            )
        if time.monotonic() > deadline:
            raise FetchFailed(UNREACHABLE)
        pieces.append(piece)
    return b"".join(pieces)
