"""Download a picture from an address that a stranger chose, without reaching into the network we stand in."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from hidream_edit.domain.errors import FetchFailed, PictureTooLarge

Resolve = Callable[[str, int], list[str]]
REDIRECTS = frozenset({301, 302, 303, 307, 308})
USER_AGENT = "Mozilla/5.0 (compatible; hidream-edit)"
# One text for whatever goes wrong: it tells a stranger nothing about the network behind us.
UNREACHABLE = "the address could not be downloaded; it has to be public and answer with a picture"


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one download may cost. ``allowed``: networks that may be reached although they are not public."""

    bytes_max: int = 50 * 2**20
    seconds_max: float = 30.0
    redirects_max: int = 5
    allowed: tuple[str, ...] = ()


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, by the system's resolver."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_reachable(address: str, allowed: Iterable[str] = ()) -> bool:
    """Whether strangers may make us connect to ``address``: it is public, or the owner allowed its network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if mapped is not None:
        ip = mapped
    if any(ip.version == network.version and ip in network for network in map(ipaddress.ip_network, allowed)):
        return True
    is_translated = ip.version == 6 and ip in ipaddress.ip_network("64:ff9b::/96")
    return ip.is_global and not ip.is_multicast and not is_translated


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
            request = _pinned(client, url, limits, resolve_host)
            try:
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
            except (httpx.HTTPError, httpx.InvalidURL) as problem:
                raise FetchFailed(UNREACHABLE) from problem
    raise FetchFailed(UNREACHABLE)


def _pinned(client: httpx.Client, url: str, limits: FetchLimits, resolve_host: Resolve) -> httpx.Request:
    """A request to the checked address, under the name of its host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
        if not host:
            raise ValueError("no host")
        addresses = resolve_host(host, port)
        if not addresses or not all(is_reachable(address, limits.allowed) for address in addresses):
            raise ValueError("not public")
        address = addresses[0]
        shown = f"[{address}]" if ":" in address else address
        query = f"?{parts.query}" if parts.query else ""
        name = host if parts.port is None else f"{host}:{port}"
        return client.build_request(
            "GET",
            f"{parts.scheme}://{shown}:{port}{parts.path or '/'}{query}",
            headers={"Host": name, "User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5"},
            extensions={"sni_hostname": host},
        )
    except (ValueError, KeyError, OSError, httpx.InvalidURL) as problem:
        raise FetchFailed(UNREACHABLE) from problem


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
