"""Requests to addresses that strangers chose, without reaching into the network we stand in."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

import httpx

Resolve = Callable[[str, int], list[str]]
PORTS = {"http": 80, "https": 443}
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """The address is malformed, unknown, or not public."""


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, by the system's resolver."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_reachable(address: str, allowed: Iterable[str] = ()) -> bool:
    """Whether strangers may make us connect to ``address``: it is public, or the owner allowed its network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inside = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if inside is not None:
        ip = inside
    if any(ip.version == network.version and ip in network for network in map(ipaddress.ip_network, allowed)):
        return True
    is_translated = ip.version == TRANSLATED.version and ip in TRANSLATED
    return ip.is_global and not ip.is_multicast and not is_translated


def pinned(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    allowed: Iterable[str],
    resolve_host: Resolve,
    headers: Mapping[str, str],
    content: bytes | None = None,
) -> httpx.Request:
    """A request to the very address that was checked, under the name of its host: the host is resolved once, so that
    a name server cannot answer differently when the socket is opened.

    Raises:
        AddressRefused: see there.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme]
        if not host:
            raise AddressRefused("there is no host")
        addresses = resolve_host(host, port)
        if not addresses or not all(is_reachable(address, allowed) for address in addresses):
            raise AddressRefused("the address is not public")
        shown = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        query = f"?{parts.query}" if parts.query else ""
        name = host if parts.port is None else f"{host}:{port}"
        return client.build_request(
            method,
            f"{parts.scheme}://{shown}:{port}{parts.path or '/'}{query}",
            headers={**headers, "Host": name},
            content=content,
            extensions={"sni_hostname": host},
        )
    except (ValueError, KeyError, OSError, httpx.InvalidURL) as problem:
        raise AddressRefused("the address is malformed or unknown") from problem
