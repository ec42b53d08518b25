"""Calls the addresses that jobs name, when they end; what fails is tried again over two hours."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from hidream_edit.domain.deliveries import Delivery, DeliveryAttempt, retry_at
from hidream_edit.domain.errors import JobNotFound
from hidream_edit.domain.interfaces import JobStore
from hidream_edit.domain.job import Job
from hidream_edit.outgoing.addresses import AddressRefused, Resolve, resolve
from hidream_edit.outgoing.client import guarded_client, plain_url
from hidream_edit.telemetry.logs import about
from hidream_edit.telemetry.traces import NO_TRACES, Tracer
from hidream_edit.webhooks.signing import signed_headers

logger = logging.getLogger(__name__)

LOOK_SECONDS, LEASE_SECONDS = 0.25, 180.0
THREADS = 4  # so that slow receivers do not hold up the others


class WebhookSender:
    """Threads that claim due deliveries. Any number of processes may run it: each delivery is leased."""

    def __init__(
        self,
        store: JobStore,
        describe: Callable[[Job], Mapping[str, Any]],
        private_key: bytes,
        *,
        allowed_networks: tuple[str, ...] = (),
        resolve_host: Resolve = resolve,
        tracer: Tracer = NO_TRACES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._describe, self._private_key = store, describe, private_key
        self._allowed, self._resolve, self._tracer, self._clock = allowed_networks, resolve_host, tracer, clock
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"webhooks-{n}", daemon=True) for n in range(THREADS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the calls under way, and end."""
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def once(self) -> bool:
        """Make the call that is due longest; False when none is."""
        delivery = self._store.claim_delivery(now=self._clock(), lease_seconds=LEASE_SECONDS)
        if delivery is None:
            return False
        with about(job_id=delivery.job_id):
            self._deliver(delivery)
        return True

    def _deliver(self, delivery: Delivery) -> None:
        began, monotonic = self._clock(), time.monotonic()
        status, error, is_final = self._called(delivery)
        attempt = DeliveryAttempt(began, round(time.monotonic() - monotonic, 3), status, error)
        next_at = None if error is None or is_final else retry_at(delivery.attempt, now=self._clock())
        self._store.record_attempt(delivery, attempt, next_at=next_at)
        if error is not None:
            logger.warning("webhook of %s: %s (attempt %s)", delivery.job_id, error, delivery.attempt)

    def _called(self, delivery: Delivery) -> tuple[int | None, str | None, bool]:
        """HTTP status, what was wrong, and whether trying again is of no use."""
        try:
            job = self._store.get(delivery.job_id)
        except JobNotFound:
            return None, "the request was pruned", True
        with self._tracer.begin(
            "webhook", job.traceparent, kind="client", request_id=job.id, attempt=delivery.attempt
        ) as span:
            status, error, is_final = self._posted(delivery, job)
            if status is not None:
                span.note(status=status)
            if error is not None:  # what it says may hold an address
                span.failed("NoAnswer" if status is None else str(status))
        return status, error, is_final

    def _posted(self, delivery: Delivery, job: Job) -> tuple[int | None, str | None, bool]:
        # The same bytes at every try: keys are sorted, and nothing in it depends on the time.
        body = json.dumps(self._describe(job), sort_keys=True).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "hidream-edit",
            **signed_headers(self._private_key, job.id, body, now=self._clock()),
        }
        try:
            with (
                guarded_client(
                    allowed=self._allowed, seconds_max=delivery.timeout_seconds, resolve_host=self._resolve
                ) as client,
                client.stream("POST", plain_url(delivery.url), headers=headers, content=body) as response,
            ):
                status = response.status_code
        except AddressRefused as refused:
            return None, str(refused), True
        except httpx.InvalidURL:
            return None, "answered with a redirect to a malformed address", True
        except httpx.HTTPError as problem:
            return None, f"{type(problem).__name__}", False
        if 200 <= status < 300:
            return status, None, True
        # Redirects are not followed: the address was checked, what it points to was not.
        return status, f"answered {status}", 300 <= status < 400

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if not self.once():
                    self._stopped.wait(LOOK_SECONDS)
            except Exception:
                logger.exception("sending webhooks failed")
                self._stopped.wait(LOOK_SECONDS * 4)
