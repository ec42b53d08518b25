"""The way of a request through the processes, as spans; nothing happens where nobody collects them.

A span's place is a `traceparent`, the words of the W3C's header: it lies with the job, so that the process which goes
on with the job goes on with the trace.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypedDict, Unpack

Kind = Literal["internal", "server", "client", "producer", "consumer"]

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Facts(TypedDict, total=False):
    """All that a span may say. No instruction, key, address or file id: whoever reads traces need not see those."""

    method: str  # of HTTP
    route: str  # as it is written in the code, without what stands in its gaps
    status: int  # of HTTP
    request_id: str  # as the caller knows it
    state: str
    attempt: int
    steps: int
    images: int
    width: int  # pixels
    height: int
    seconds: float


class Span(Protocol):
    """A stretch of time; as a context it ends by itself, and says which kind of error ended it."""

    @property
    def traceparent(self) -> str | None:
        """Where spans inside it belong; None where nothing is known of a trace."""

    def note(self, **facts: Unpack[Facts]) -> None:
        """Say more."""

    def failed(self, kind: str) -> None:
        """It was no success; ``kind`` is the name of an error, never its message."""

    def end(self) -> None:
        """It is over. Once; what is said later is lost."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Makes spans. Nothing it does raises, waits for a network, or says more than `Facts`."""

    @property
    def is_on(self) -> bool:
        """Whether anybody collects."""

    def begin(
        self, name: str, parent: str | None, *, kind: Kind = "internal", at: float | None = None, **facts: Unpack[Facts]
    ) -> Span:
        """A span below ``parent``, or a new trace; ``at`` is Unix seconds, now where it is left out."""

    def record(self, name: str, parent: str | None, *, began: float, ended: float, **facts: Unpack[Facts]) -> None:
        """A span that is over already."""

    def close(self) -> None:
        """Send what is left, for a moment; a collector that is away is not waited for."""


class NoSpan:
    """See `Span`. Hands on where it belongs: whoever does collect can still join."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def note(self, **facts: Unpack[Facts]) -> None:
        """Nobody listens."""

    def failed(self, kind: str) -> None:
        """Nobody listens."""

    def end(self) -> None:
        """Nobody listens."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody listens."""


class NoTraces:
    """See `Tracer`."""

    is_on = False

    def begin(self, name: str, parent: str | None, **_: Any) -> Span:  # noqa: ARG002 - its callers name it
        return NoSpan(parent)

    def record(self, name: str, parent: str | None, **_: Any) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing to send."""


NO_TRACES: Tracer = NoTraces()


def traceparent_of(header: str | None) -> str | None:
    """The header of a caller, where it is one; whatever else was sent begins a new trace."""
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None
