"""What runners say of themselves."""

from __future__ import annotations

from hidream_edit.domain.interfaces import JobStore, RunnerFacts, RunnerState


def test_runners_announce_themselves_and_fall_silent(store: JobStore) -> None:
    store.announce(RunnerFacts("r1", RunnerState.LOADING, "mini", 10.0))
    store.announce(RunnerFacts("r2", RunnerState.READY, "mini", 11.0))
    store.announce(RunnerFacts("r1", RunnerState.READY, "mini", 20.0, {"guidance_scale": 1}, "cuda:0"))
    assert [runner.id for runner in store.runners(since=15)] == ["r1"]
    ready = store.runners(since=0)[0]
    assert (ready.state, ready.device, ready.defaults) == (RunnerState.READY, "cuda:0", {"guidance_scale": 1})
    store.dismiss("r1")
    assert [runner.id for runner in store.runners(since=0)] == ["r2"]


def test_a_runner_says_what_it_is_good_at_and_how_much_memory_it_takes(store: JobStore) -> None:
    facts = RunnerFacts("r1", RunnerState.READY, "mini", 5.0, examples=("make it night", "snow"), memory_bytes=2**33)
    store.announce(facts)
    assert store.runners(since=0) == [facts]
