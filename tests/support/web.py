"""A web of hosts that exist in memory, and the record of every address that was connected."""

from __future__ import annotations

import httpcore

PUBLIC = "93.184.216.34"


def answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP answer."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body


class Web:
    """Answers by the host header; every name is at one public address unless ``names`` says otherwise."""

    def __init__(self, answers: dict[str, bytes], names: dict[str, list[str]] | None = None) -> None:
        self.answers, self.names = answers, names or {}
        self.connected: list[str] = []
        self.requests: list[bytes] = []

    def resolve(self, host: str, _: int) -> list[str]:
        if host in self.names:
            return self.names[host]
        return [host if ":" in host or host[-1].isdigit() else PUBLIC]

    def connect(self, address: str, _: int, __: float | None) -> httpcore.NetworkStream:
        self.connected.append(address)
        return _Stream(self)


class _Stream(httpcore.NetworkStream):
    def __init__(self, web: Web) -> None:
        self._web, self._sent, self._left = web, b"", b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the library's name
        self._sent += buffer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the library's name
        if self._sent:
            host = next(line for line in self._sent.split(b"\r\n") if line.lower().startswith(b"host: "))
            self._web.requests.append(self._sent)
            self._left, self._sent = self._web.answers[host[6:].decode()], b""
        piece, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return piece

    def close(self) -> None:
        pass

    def start_tls(self, *_: object, **__: object) -> httpcore.NetworkStream:
        return self
