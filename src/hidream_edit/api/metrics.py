"""Numbers for Prometheus: those of the database, which all processes share, and those that this process counts."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Iterator
from itertools import groupby

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from hidream_edit.api.admin import check_admin
from hidream_edit.api.services import Services, services_of
from hidream_edit.domain.errors import StoreUnavailable
from hidream_edit.domain.interfaces import RUNNER_SILENT_SECONDS, RunnerState
from hidream_edit.domain.job import JobState, Priority
from hidream_edit.domain.measures import (
    ALL,
    GIVEN_UP,
    JOBS_ENDED,
    MEASURES,
    TRIED_AGAIN,
    WEBHOOK_FAILURES,
    Measure,
    Observation,
)
from hidream_edit.telemetry.meters import CONTENT_TYPE, PREFIX
from hidream_edit.version import __version__

HELP = {
    "jobs_ended": "Jobs that ended, by their final state.",
    "webhook_failures": "Calls of webhooks that failed, by whether they are tried again.",
    "queue_seconds": "Time from submit to start, of jobs that ended.",
    "edit_seconds": "Time on the device, of jobs that completed, by their number of steps.",
    "steps_per_second": "Denoising steps per second, of jobs that completed.",
    "preview_seconds": "Time to make, encode and store a preview.",
    "encode_seconds": "Time to encode a result as a file.",
}
# Labels that exist from the start, so that the first of a kind is a rise.
KNOWN_LABELS = {
    JOBS_ENDED.name: [state.value for state in JobState if state.is_final],
    WEBHOOK_FAILURES.name: [GIVEN_UP, TRIED_AGAIN],
}
PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "origin")


async def metrics(request: Request) -> Response:
    """For whoever is on this machine, and for keys with the scope admin."""
    services = services_of(request)
    if not is_from_here(request):
        await check_admin(request)
    return Response(await asyncio.to_thread(_text, services), media_type=CONTENT_TYPE)


def is_from_here(request: Request) -> bool:
    """Whether a program on this machine calls for itself: not a proxy for somebody else, and not a web page."""
    if any(name in request.headers for name in PASSED_ON):
        return False
    return request.client is not None and _is_loopback(request.client.host) and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(services: Services) -> bytes:
    shared = CollectorRegistry()
    shared.register(SharedNumbers(services))
    return generate_latest(shared) + services.meters.text()


class SharedNumbers:
    """What the database knows, read when somebody asks. Every API process gives the same."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """One family after the other; without a database only that it is not there."""
        yield _gauge("build_info", "The version that answers.", {__version__: 1}, label="version")
        try:
            families = [*self._now(), *self._totals()]
        except StoreUnavailable:
            families = []
        yield _gauge("store_up", "Whether the database answers.", {"": 1 if families else 0})
        yield from families

    def _now(self) -> Iterator[Metric]:
        services = self._services
        now, census = services.clock(), services.store.census()
        waiting = {priority.name.lower(): census.waiting.get(priority, 0) for priority in Priority}
        oldest = 0.0 if census.oldest_queued_at is None else max(now - census.oldest_queued_at, 0.0)
        states = [runner.state for runner in services.store.runners(since=now - RUNNER_SILENT_SECONDS)]
        yield _gauge("queue_depth", "Jobs that wait.", waiting, label="priority")
        yield _gauge("queue_oldest_seconds", "How long the oldest of them waits.", {"": oldest})
        yield _gauge("running_jobs", "Jobs that a runner has.", {"": census.running})
        counts = {state.value: states.count(state) for state in RunnerState}
        yield _gauge("runners", "Runners, by what they are doing.", counts, label="state")
        yield _gauge("blob_bytes", "Bytes of uploads and results.", {"": services.blobs.bytes_stored()})

    def _totals(self) -> Iterator[Metric]:
        by_name = {
            name: list(group) for name, group in groupby(self._services.store.measures(), key=lambda one: one.name)
        }
        for measure in MEASURES:
            observations = by_name.get(measure.name, [])
            yield _histogram(measure, observations) if measure.bounds else _counter(measure, observations)


def _gauge(name: str, about: str, values: dict[str, float] | dict[str, int], *, label: str = "") -> Metric:
    family = GaugeMetricFamily(PREFIX + name, about, labels=[label] if label else [])
    for value_of, value in values.items():
        family.add_metric([value_of] if label else [], value)
    return family


def _counter(measure: Measure, observations: Iterable[Observation]) -> Metric:
    family = CounterMetricFamily(PREFIX + measure.name, HELP[measure.name], labels=[measure.label])
    counts = {one.label: one.number for one in observations}
    for label in KNOWN_LABELS[measure.name]:
        family.add_metric([label], counts.get(label, 0))
    return family


def _histogram(measure: Measure, observations: list[Observation]) -> Metric:
    """Stored counts are each bound's own; the format wants those of all smaller bounds in them."""
    family = HistogramMetricFamily(
        PREFIX + measure.name, HELP[measure.name], labels=[measure.label] if measure.label else []
    )
    labels = sorted({one.label for one in observations}) or ([] if measure.label else [""])
    for label in labels:
        mine = {one.bound: one for one in observations if one.label == label}
        buckets, below = [], 0
        for bound in [*(f"{bound:g}" for bound in measure.bounds), ALL]:
            below += mine[bound].number if bound in mine else 0
            buckets.append((bound, below))
        total = sum(one.total for one in mine.values())
        family.add_metric([label] if measure.label else [], buckets, total)
    return family
