"""Numbers that one process counts by itself; every other process counts its own, and who collects adds them up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

PREFIX = "hidream_edit_"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REASONS = ("rate", "concurrent", "queue_full", "input", "auth", "too_large", "storage", "unavailable")
STORE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Meters:
    """A registry of its own, so that two servers in one process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._rejects = Counter(
            f"{PREFIX}rejects", "Requests that were refused, by reason.", ["reason"], registry=self.registry
        )
        self._store = Histogram(
            f"{PREFIX}store_seconds",
            "Time of reads, and of write transactions with their wait in the line.",
            ["kind"],
            registry=self.registry,
            buckets=STORE_BOUNDS,
        )
        for reason in REASONS:  # from zero on, so that a first refusal is a rise
            self._rejects.labels(reason)
        for kind in ("read", "write"):
            self._store.labels(kind)

    def rejected(self, reason: str) -> None:
        """One more request was refused."""
        self._rejects.labels(reason).inc()

    def store_took(self, kind: str, seconds: float) -> None:
        """A read or a write has ended."""
        self._store.labels(kind).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
