"""Threads that look after jobs outlive a store that fails for a while."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from hidream_edit.domain.errors import StoreUnavailable
from hidream_edit.domain.interfaces import Submit
from hidream_edit.domain.job import Job, NewJob
from hidream_edit.queue import maintenance as maintaining
from hidream_edit.queue import watcher as watching
from hidream_edit.queue.maintenance import Maintenance
from hidream_edit.queue.submitter import Submitter
from hidream_edit.queue.watcher import Watcher
from hidream_edit.testing.memory_store import MemoryStore
from hidream_edit.webhooks import sender as sending
from hidream_edit.webhooks.sender import WebhookSender
from hidream_edit.webhooks.signing import new_private_key

PATIENCE = 30


class Failing(MemoryStore):
    """Fails once at each of these calls, then goes on and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.has_failed = {"wait": False, "rescue": False, "claim_delivery": False}
        self.went_on = {name: threading.Event() for name in self.has_failed}

    def _once(self, name: str) -> None:
        if not self.has_failed[name]:
            self.has_failed[name] = True
            raise StoreUnavailable("away")
        self.went_on[name].set()

    def wait(self, revision: int, *, seconds_max: float) -> int:
        self._once("wait")
        return super().wait(revision, seconds_max=seconds_max)

    def rescue(self, *, now: float) -> list[Job]:
        self._once("rescue")
        return super().rescue(now=now)

    def claim_delivery(self, **when: float) -> Any:
        self._once("claim_delivery")
        return super().claim_delivery(**when)


class NoBlobs:
    def prune(self, *, now: float) -> None:
        pass


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintaining, "RESCUE_SECONDS", 0.001)
    monkeypatch.setattr(watching, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(sending, "LOOK_SECONDS", 0.001)


def test_who_follows_changes_goes_on_and_sees_what_came_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    store = Failing()

    async def follow() -> Job:
        watcher = Watcher(store)
        watcher.start()
        try:
            assert await asyncio.to_thread(store.went_on["wait"].wait, PATIENCE)
            store.submit(NewJob(id="a", caller="c", input={}), now=1)
            return await watcher.get("a")
        finally:
            await asyncio.to_thread(watcher.stop)

    assert asyncio.run(follow()).id == "a"
    assert "following the store failed" in caplog.text


def test_maintenance_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    store = Failing()
    thread = Maintenance(store, NoBlobs())  # type: ignore[arg-type]
    thread.start()
    assert store.went_on["rescue"].wait(PATIENCE)
    thread.stop()
    assert "maintenance failed" in caplog.text


def test_sending_webhooks_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    store = Failing()
    sender = WebhookSender(store, lambda _: {}, new_private_key())
    sender.start()
    assert store.went_on["claim_delivery"].wait(PATIENCE)
    sender.stop()
    assert "sending webhooks failed" in caplog.text


def test_a_submit_whose_server_has_stopped_is_stored_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    submitter = Submitter(store, lambda: 1.0)
    ended = asyncio.new_event_loop()
    asked = ended.create_future()
    ended.close()
    with caplog.at_level(logging.WARNING):
        submitter._store_group([(Submit(NewJob(id="a", caller="c", input={})), ended, asked)])
    assert store.get("a").id == "a"
    assert "after their server had stopped" in caplog.text
