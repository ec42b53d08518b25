"""The one HTTP client for outgoing requests. Addresses are checked where sockets are opened: at the first connection,
at every redirect, whatever an URL looked like."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import httpx

from hidream_edit.outgoing.addresses import AddressRefused, Resolve, checked, resolve

# Their lines hold whole addresses, and those of webhooks and signed files hold secrets.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

Connect = Callable[[str, int, float | None], httpcore.NetworkStream]


def connect(address: str, port: int, seconds_max: float | None) -> httpcore.NetworkStream:
    """Open a socket to an address that was checked."""
    return httpcore.SyncBackend().connect_tcp(address, port, timeout=seconds_max)


def guarded_client(
    *,
    allowed: Iterable[str] = (),
    seconds_max: float,
    is_total: bool = True,
    resolve_host: Resolve = resolve,
    connect_to: Connect = connect,
    **options: Any,
) -> httpx.Client:
    """A client that connects public addresses only, and those in ``allowed``. It reads no proxy settings and follows
    no redirects.

    ``seconds_max`` counts for all that the client does together, or, without ``is_total``, for each wait.
    """
    deadline = time.monotonic() + seconds_max if is_total else None
    transport = _GuardedTransport(_Guard(tuple(allowed), resolve_host, connect_to, deadline))
    return httpx.Client(transport=transport, timeout=seconds_max, trust_env=False, follow_redirects=False, **options)


def plain_url(url: str) -> httpx.URL:
    """An address without a name and password in front, which would only hide where it leads.

    Raises:
        AddressRefused: malformed, neither http nor https, or without a host.
    """
    try:
        parsed = httpx.URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise AddressRefused("neither http nor https")
        return parsed.copy_with(username=None, password=None, fragment=None)
    except (httpx.InvalidURL, ValueError) as malformed:
        raise AddressRefused("the address is malformed") from malformed


class _GuardedTransport(httpx.HTTPTransport):
    """httpx's own transport over a pool that opens its sockets through the guard."""

    def __init__(self, guard: httpcore.NetworkBackend) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=guard)


class _Guard(httpcore.NetworkBackend):
    """Resolves a name once, checks, and connects that very address: a name server that answers differently the second
    time is not asked a second time. TLS still verifies the name."""

    def __init__(
        self, allowed: tuple[str, ...], resolve_host: Resolve, connect_to: Connect, deadline: float | None
    ) -> None:
        self._allowed, self._resolve, self._connect, self._deadline = allowed, resolve_host, connect_to, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        del local_address, socket_options
        addresses = checked(host, port, allowed=self._allowed, resolve_host=self._resolve)
        stream = self._connect(addresses[0], port, _left(self._deadline, timeout, httpcore.ConnectTimeout))
        return stream if self._deadline is None else _Timed(stream, self._deadline)


class _Timed(httpcore.NetworkStream):
    """A stream whose every wait ends at the deadline: a byte now and then does not keep it open."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout, httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float | None, timeout: float | None, too_late: type[Exception]) -> float | None:
    """Seconds until the deadline, at most ``timeout``."""
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise too_late
    return left if timeout is None else min(left, timeout)
