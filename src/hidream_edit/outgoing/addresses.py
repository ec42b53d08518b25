"""Which addresses strangers may make us connect to."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable

Resolve = Callable[[str, int], list[str]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

EVERYWHERE = ("0.0.0.0/0", "::/0")  # for addresses that the owner chose
RESOLVE_SECONDS = 10.0
UNICAST = ipaddress.IPv6Network("2000::/3")  # what is handed out of IPv6; everything else has a special meaning
# Not for the public, whatever the tables of a Python version say: protocol assignments, relays to wherever a 6to4
# address inside the packet says, documentation.
SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))


class AddressRefused(Exception):
    """The address is malformed, unknown, or not public."""


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, by the system's resolver.

    Raises:
        AddressRefused: unknown, or the resolver took too long.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(str(entry[4][0]) for entry in entries)

    # The resolver knows no time limit of its own.
    asking = threading.Thread(target=ask, name="resolver", daemon=True)
    asking.start()
    asking.join(RESOLVE_SECONDS)
    if not found:
        raise AddressRefused("the host is unknown")
    return found


def is_reachable(address: str, allowed: Iterable[str] = ()) -> bool:
    """Whether ``address`` is public, or in a network that the owner allowed."""
    try:
        ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if any(ip.version == network.version and ip in network for network in map(ipaddress.ip_network, allowed)):
        return True
    if isinstance(ip, ipaddress.IPv6Address) and ip not in UNICAST:
        return False
    if any(ip.version == network.version and ip in network for network in SPECIAL):
        return False
    return ip.is_global and not ip.is_multicast


def _inner(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


def checked(host: str, port: int, *, allowed: Iterable[str], resolve_host: Resolve) -> list[str]:
    """The addresses of ``host``, every one of which may be connected.

    Raises:
        AddressRefused: unknown, or one of them may not.
    """
    addresses = resolve_host(host, port)
    if not addresses or not all(is_reachable(address, allowed) for address in addresses):
        raise AddressRefused("the address is not public")
    return addresses
