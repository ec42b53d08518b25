"""Whether, and after how many seconds, a call is made again. Values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

ATTEMPTS, POLL_ATTEMPTS = 4, 6
FIRST_PAUSE, PAUSE_MAX, JITTER = 0.5, 16.0, 0.25  # seconds, seconds, share
RETRY_AFTER_MAX = 120.0  # seconds; whoever is told to wait longer is told so
PASSING = frozenset({408, 429, 502, 503, 504})
NOT_TAKEN = frozenset({429})  # the server says that it has done nothing
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

NEVER_MENDED = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def passes(status: int, headers: httpx.Headers, *, is_repeatable: bool) -> bool:
    """Whether an answer may be another one in a moment."""
    if headers.get("x-fal-needs-retry", "").lower() in ("0", "false") or "x-fal-request-timeout-type" in headers:
        return False  # how a request ended, which is kept: asking again gives the same
    return status in (PASSING if is_repeatable else NOT_TAKEN)


def is_worth_repeating(lost: Exception, *, is_repeatable: bool) -> bool:
    """Whether a call without an answer is made again; one that cannot have arrived always is."""
    if not isinstance(lost, httpx.TransportError) or isinstance(lost, NEVER_MENDED):
        return False
    return is_repeatable or isinstance(lost, NOT_SENT)


def pause(attempt: int, chance: float) -> float:
    """Seconds after attempt 1, 2, …: doubling, a little apart from other clients'. ``chance`` is from 0 to 1."""
    seconds = min(FIRST_PAUSE * 2 ** (attempt - 1), PAUSE_MAX)
    return float(seconds * (1 + JITTER * (2 * chance - 1)))


def retry_after(headers: httpx.Headers, *, otherwise: float, now: datetime | None = None) -> float:
    """Seconds that the server asks for, or ``otherwise``, where it says nothing that can be read."""
    given = headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given)
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return otherwise
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
