"""How much one caller may ask for: a token bucket, a number of requests at a time, bytes in store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """None: no limit. A bucket holds as many requests as fit into one minute, and fills at that rate."""

    rate_per_minute: float | None = None
    concurrent_max: int | None = None  # waiting and running together
    bytes_max: int | None = None  # of uploads and results that are stored; results are never refused

    @property
    def is_unlimited(self) -> bool:
        """Whether no request has to be counted."""
        return self.rate_per_minute is None and self.concurrent_max is None


UNLIMITED = Quota()


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests that a caller may make at once, as of a time in Unix seconds."""

    tokens: float
    filled_at: float


def taken(bucket: Bucket | None, rate_per_minute: float, *, now: float) -> Bucket | float:
    """The bucket after one request, or the seconds until there is one to take. None is a bucket that was never used."""
    size = max(1.0, rate_per_minute)
    if bucket is None:
        tokens = size
    else:
        tokens = min(size, bucket.tokens + max(0.0, now - bucket.filled_at) * rate_per_minute / 60)
    if tokens < 1:
        return (1 - tokens) * 60 / rate_per_minute
    return Bucket(tokens - 1, now)
