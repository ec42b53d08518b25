"""A bucket of requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hidream_edit.domain.quotas import Bucket, taken


def test_a_new_bucket_is_full_and_holds_a_minutes_worth() -> None:
    bucket: Bucket | float | None = None
    for _ in range(3):
        bucket = taken(bucket, 3, now=0)
        assert isinstance(bucket, Bucket)
    assert taken(bucket, 3, now=0) == 20.0  # seconds until the next


def test_it_fills_with_time_and_not_beyond_its_size() -> None:
    empty = Bucket(0.0, 100.0)
    assert taken(empty, 60, now=100.5) == 0.5
    assert taken(empty, 60, now=101) == Bucket(0.0, 101)
    assert taken(empty, 60, now=100_000) == Bucket(59.0, 100_000)


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    assert taken(Bucket(2.0, 100.0), 60, now=50) == Bucket(1.0, 50)


def test_less_than_one_a_minute_is_possible() -> None:
    first = taken(None, 0.5, now=0)
    assert first == Bucket(0.0, 0)
    assert taken(Bucket(0.0, 0), 0.5, now=0) == 120.0


@given(st.floats(0.1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_over_any_time_no_more_than_the_rate_and_one_bucket_is_given(rate: float, pauses: list[float]) -> None:
    now, bucket, given_out = 0.0, None, 0
    for pause in pauses:
        now += pause
        after = taken(bucket, rate, now=now)
        if isinstance(after, Bucket):
            bucket, given_out = after, given_out + 1
    assert given_out <= max(1.0, rate) + now * rate / 60 + 1e-6
