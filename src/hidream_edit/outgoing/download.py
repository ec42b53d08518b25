"""Download a picture, within limits."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from hidream_edit.domain.errors import FetchFailed, PictureTooLarge
from hidream_edit.outgoing.addresses import AddressRefused, Resolve, resolve
from hidream_edit.outgoing.client import Connect, connect, guarded_client, plain_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; hidream-edit)", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"
}  # fmt: skip
# One text for whatever goes wrong: it tells a stranger nothing about the network behind us.
UNREACHABLE = "the address could not be downloaded; it has to be public and answer with a picture"
GZIP_OR_ZLIB = 47  # zlib's sign for "look which"
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """What one download may cost. ``allowed``: networks that may be reached although they are not public."""

    bytes_max: int = 50 * 2**20
    seconds_max: float = 30.0
    redirects_max: int = 5
    allowed: tuple[str, ...] = ()


def download(
    url: str,
    *,
    limits: DownloadLimits,
    explain: Callable[[str], str] = lambda _: UNREACHABLE,
    resolve_host: Resolve = resolve,
    connect_to: Connect = connect,
) -> bytes:
    """The bytes at ``url``; each redirect is checked like the first address.

    ``explain`` makes the message from what went wrong; left out, every message is the same.

    Raises:
        FetchFailed: refused, unreachable, too slow, or not a success.
        PictureTooLarge: more bytes than allowed.
    """
    with guarded_client(
        allowed=limits.allowed, seconds_max=limits.seconds_max, resolve_host=resolve_host, connect_to=connect_to
    ) as client:
        for _ in range(limits.redirects_max + 1):
            try:
                with client.stream("GET", plain_url(url), headers=HEADERS) as response:
                    if response.status_code in REDIRECTS and "location" in response.headers:
                        url = urljoin(url, response.headers["location"])
                        continue
                    if not response.is_success:
                        raise FetchFailed(explain(f"answered {response.status_code}"))
                    return _body(response, limits.bytes_max)
            except (httpx.HTTPError, httpx.InvalidURL, AddressRefused, ValueError, OSError, zlib.error) as problem:
                raise FetchFailed(explain(f"could not be fetched: {type(problem).__name__}")) from problem
    raise FetchFailed(explain("leads elsewhere again and again"))


def _body(response: httpx.Response, bytes_max: int) -> bytes:
    pieces, size = [], 0
    for piece in _decoded(response):
        size += len(piece)
        if size > bytes_max:
            raise PictureTooLarge(
                f"the picture has more than the {bytes_max:,} bytes allowed",
                kind="file_too_large",
                context={"max_size": bytes_max},
            )
        pieces.append(piece)
    return b"".join(pieces)


def _decoded(response: httpx.Response) -> Iterator[bytes]:
    """The body; one that is compressed although we asked for none comes in small pieces, however far it unfolds."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        yield from response.iter_raw(PIECE_BYTES)
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise AddressRefused("an encoding that nobody asked for")
    unfolding = zlib.decompressobj(GZIP_OR_ZLIB)
    for piece in response.iter_raw(PIECE_BYTES):
        while piece:
            yield unfolding.decompress(piece, PIECE_BYTES)
            piece = unfolding.unconsumed_tail
    yield unfolding.flush()
