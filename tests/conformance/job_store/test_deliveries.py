"""The duty to tell a caller's address of an end."""

from __future__ import annotations

from tests.conformance.job_store.calls import claim, submit, token

from hidream_edit.domain.deliveries import DeliveryAttempt
from hidream_edit.domain.interfaces import JobStore


def test_the_owner_sees_what_became_of_deliveries_and_may_repeat_one(store: JobStore) -> None:
    for name in ("a", "b"):
        submit(store, name, webhook_url=f"https://hooks.example/{name}")
        job = claim(store)
        store.complete(job.id, token(job), {"images": []}, now=2)
    assert [(one.job_id, one.state) for one in store.deliveries(9)] == [("b", "pending"), ("a", "pending")]
    first = store.claim_delivery(now=3, lease_seconds=9)
    assert first is not None
    store.record_attempt(first, DeliveryAttempt(3, 0.1, 200, None), next_at=None)
    second = store.claim_delivery(now=3, lease_seconds=9)
    assert second is not None
    store.record_attempt(second, DeliveryAttempt(3, 0.1, 500, "answered 500"), next_at=None)
    assert {one.job_id: (one.state, one.error) for one in store.deliveries(9)} == {
        "a": ("delivered", None),
        "b": ("failed", "answered 500"),
    }
    assert store.claim_delivery(now=9e9, lease_seconds=9) is None
    assert store.redeliver("b", now=4)
    again = store.claim_delivery(now=4, lease_seconds=9)
    assert again is not None
    assert (again.job_id, again.attempt) == ("b", 2)
    assert not store.redeliver("no such job", now=4)


def test_a_try_that_was_overtaken_is_written_down_and_decides_nothing(store: JobStore) -> None:
    submit(store, "a", webhook_url="https://x")
    store.complete("a", token(claim(store)), {}, now=2)
    slow = store.claim_delivery(now=3, lease_seconds=9)
    fast = store.claim_delivery(now=20, lease_seconds=9)
    assert slow is not None
    assert fast is not None
    store.record_attempt(fast, DeliveryAttempt(21, 0.1, 200, None), next_at=None)
    store.record_attempt(slow, DeliveryAttempt(22, 19.0, None, "no answer"), next_at=30.0)
    assert store.claim_delivery(now=9e9, lease_seconds=9) is None
    assert [one.error for one in store.attempts("a")] == ["no answer", None]
    assert [one.state for one in store.deliveries(9)] == ["delivered"]


def test_a_webhook_that_failed_counts_by_whether_it_is_tried_again(store: JobStore) -> None:
    submit(store, "a", webhook_url="https://x")
    store.complete("a", token(claim(store)), {}, now=2)
    for error, next_at in (("answered 500", 3.0), ("answered 500", None)):
        delivery = store.claim_delivery(now=3, lease_seconds=0)
        assert delivery is not None
        store.record_attempt(delivery, DeliveryAttempt(3.0, 0.1, 500, error), next_at=next_at)
    failures = {one.label: one.number for one in store.measures() if one.name == "webhook_failures"}
    assert failures == {"tried_again": 1, "given_up": 1}
