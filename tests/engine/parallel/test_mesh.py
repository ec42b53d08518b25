"""How branches and tokens are shared out among ranks."""

from __future__ import annotations

import pytest

from hidream_edit.engine.parallel.mesh import FAR, NEAR, choose_teams, part_of, team_cost

HEADS = 20  # of the real model


def shape(branches: int, ranks: int, exchange: float = NEAR, heads: int = HEADS) -> list[tuple[int, int]]:
    """(ranks, branches) of each team."""
    return [(team.size, len(team.rows)) for team in choose_teams(branches, ranks, heads=heads, exchange=exchange)]


def test_three_branches_on_three_devices_take_one_each() -> None:
    assert shape(3, 3) == [(1, 1), (1, 1), (1, 1)]
    assert shape(2, 2) == [(1, 1), (1, 1)]


def test_two_devices_halve_the_tokens_of_three_branches_rather_than_one_waiting_for_the_other() -> None:
    assert shape(3, 2) == [(2, 3)]


def test_over_slow_links_branches_stay_whole() -> None:
    assert shape(3, 2, FAR) == [(1, 2), (1, 1)]
    assert shape(3, 4, FAR) == [(1, 1), (1, 1), (1, 1)]  # the fourth would only talk


def test_one_branch_is_shared_by_all_devices() -> None:
    assert [shape(1, ranks) for ranks in (1, 2, 3, 4)] == [[(1, 1)], [(2, 1)], [(3, 1)], [(4, 1)]]


def test_more_devices_than_branches_make_teams_or_one_team_whichever_is_sooner_done() -> None:
    assert shape(3, 4) == [(4, 3)]
    assert shape(2, 4) == [(2, 1), (2, 1)]
    assert shape(3, 6) == [(2, 1), (2, 1), (2, 1)]


@pytest.mark.parametrize("exchange", [0.0, NEAR, FAR, 10.0])
@pytest.mark.parametrize("ranks", range(1, 9))
@pytest.mark.parametrize("branches", [1, 2, 3])
def test_every_branch_is_computed_once_and_no_device_twice(branches: int, ranks: int, exchange: float) -> None:
    teams = choose_teams(branches, ranks, heads=HEADS, exchange=exchange)
    assert [row for team in teams for row in team.rows] == list(range(branches))
    used = [rank for team in teams for rank in team.ranks]
    assert used == list(range(len(used)))
    assert len(used) <= ranks


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_another_device_never_makes_a_step_slower(branches: int) -> None:
    def slowest(ranks: int) -> float:
        teams = choose_teams(branches, ranks, heads=HEADS, exchange=NEAR)
        return max(team_cost(team.size, len(team.rows), heads=HEADS, exchange=NEAR) for team in teams)

    costs = [slowest(ranks) for ranks in range(1, 9)]
    assert costs == sorted(costs, reverse=True)


def test_parts_are_as_equal_as_it_goes() -> None:
    assert [part_of(7, 3, index) for index in range(3)] == [range(3), range(3, 5), range(5, 7)]
    assert [len(part_of(2, 4, index)) for index in range(4)] == [1, 1, 0, 0]
