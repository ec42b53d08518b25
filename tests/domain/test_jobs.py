"""Jobs, keys and webhooks as values."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hidream_edit.domain.deliveries import RETRY_DELAYS_SECONDS, retry_at
from hidream_edit.domain.errors import IllegalMove
from hidream_edit.domain.job import LEGAL_MOVES, Job, JobState, Priority, moved
from hidream_edit.domain.keys import hash_of, new_key, opens

ROOT = Path(__file__).parents[2]


def a_job(state: JobState) -> Job:
    return Job(
        id="a", caller="c", input={}, state=state, priority=Priority.NORMAL, sequence=1, revision=1, attempt=0,
        attempts_max=3, queued_at=0.0, keep_seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(("start", "end"), list(itertools.product(JobState, JobState)))
def test_what_is_not_in_the_table_of_moves_cannot_happen(start: JobState, end: JobState) -> None:
    if end in LEGAL_MOVES[start]:
        assert moved(a_job(start), end).state is end
    else:
        with pytest.raises(IllegalMove, match=f"is {start} and cannot become {end}"):
            moved(a_job(start), end)


def test_an_end_is_an_end() -> None:
    assert {state for state in JobState if state.is_final} == {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


def test_the_documented_table_of_states_is_the_real_one() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for state, following in LEGAL_MOVES.items():
        row = next(line for line in text.splitlines() if line.startswith("|") and state.value in line.split("|")[1])
        documented = {other for other in JobState if other.value in row.split("|", 2)[2].replace("was lost", "")}
        assert documented == following, state


def test_a_key_is_long_random_and_stored_as_a_hash() -> None:
    key, credential = new_key("phone", now=5.0)
    key_id, _, secret = credential.partition(":")
    assert key_id == key.id
    assert len(secret) >= 43
    assert secret not in repr(key)
    assert key.secret_hash == hash_of(secret)
    assert opens(key, secret)
    assert not opens(key, secret + "x")
    assert new_key("phone", now=5.0)[1] != credential


def test_webhooks_are_tried_for_two_hours() -> None:
    assert sum(RETRY_DELAYS_SECONDS) == 7200
    assert retry_at(1, now=100) == 110
    assert retry_at(len(RETRY_DELAYS_SECONDS) + 1, now=0) is None
