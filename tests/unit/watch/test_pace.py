from __future__ import annotations

import pytest

from sigfs.watch.pace import FAST_S, REST, SLOW_S, Pace


def test_it_is_fast_while_things_change_and_slows_down_afterwards() -> None:
    pace = Pace()
    assert pace.looked(changed=True, cost_s=0) == FAST_S
    intervals = [pace.looked(changed=False, cost_s=0) for _ in range(60)]
    assert intervals == sorted(intervals)
    assert intervals[0] < 2 * FAST_S
    assert intervals[-1] == SLOW_S
    assert pace.looked(changed=True, cost_s=0) == FAST_S


def test_it_never_takes_more_than_its_share_of_a_core() -> None:
    pace = Pace()
    for cost_s in (0.001, 0.1, 7.0):
        for changed in (True, False):
            assert cost_s / pace.looked(changed=changed, cost_s=cost_s) <= 1 / REST
    assert pace.looked(changed=True, cost_s=0) == FAST_S, "a costly look is not held against the next"


@pytest.mark.parametrize("cost_s", [0.0, 0.02])
def test_a_quiet_hour_costs_at_most_its_share(cost_s: float) -> None:
    pace = Pace()
    now_s, spent_s = 0.0, 0.0
    while now_s < 3600:
        spent_s += cost_s
        now_s += cost_s + pace.looked(changed=False, cost_s=cost_s)
    assert spent_s <= now_s / REST
