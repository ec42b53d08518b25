"""Webhooks as values: one durable duty to call one address, with its attempts, and when to try again."""

from __future__ import annotations

from dataclasses import dataclass

# Ten tries over two hours; the first soon, for a receiver that is just starting again.
RETRY_DELAYS_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3080)
FIRST_TIMEOUT_SECONDS, LATER_TIMEOUT_SECONDS = 15.0, 120.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed duty; ``attempt`` counts from 1."""

    job_id: str
    url: str
    attempt: int

    @property
    def timeout_seconds(self) -> float:
        """The first try must not hold others up for long."""
        return FIRST_TIMEOUT_SECONDS if self.attempt == 1 else LATER_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One try: when, how long, which HTTP status, and what was wrong (None: delivered)."""

    at: float
    seconds: float
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """A duty as its owner sees it."""

    job_id: str
    url: str
    state: str  # pending, delivered, failed
    attempt: int  # tries so far
    due_at: float | None
    error: str | None  # of the last try


def retry_at(attempt: int, *, now: float) -> float | None:
    """When to try again after ``attempt``; None when it is time to give up."""
    return now + RETRY_DELAYS_SECONDS[attempt - 1] if attempt <= len(RETRY_DELAYS_SECONDS) else None
