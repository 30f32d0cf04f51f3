"""Schedules say what remains when: hand-worked values, and what they refuse."""

from __future__ import annotations

import pytest

from deadhead.errors import BudgetError, DataError, DeadheadError
from deadhead.training.masking.schedule import Schedule


def test_points_are_what_remains_after_an_epoch_and_nothing_is_due_between() -> None:
    schedule = Schedule({5: 0.4, 2: 0.9, 3: 0.8})
    assert [schedule.at(epoch) for epoch in range(7)] == [None, None, 0.9, 0.8, None, 0.4, None]
    assert schedule.options(0.8) == {"units": 0.8, "scope": "group"}
    assert Schedule({1: 0.5}, budget="macs", scope="all").options(0.5) == {"macs": 0.5, "scope": "all"}


def test_the_cubic_schedule_is_zhu_and_guptas_for_the_sparsity() -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, for t in t_0, t_0 + dt, ..., t_0 + n dt."""
    start, interval, times, intact, end = 10, 5, 6, 0.1, 0.85
    schedule = Schedule.cubic(
        1 - end, start=start, end=start + times * interval, interval=interval, intact=1 - intact, every="step"
    )
    expected = {}
    for n in range(times + 1):
        time = start + n * interval
        sparsity = end + (intact - end) * (1 - (time - start) / (times * interval)) ** 3
        expected[time] = pytest.approx(1 - sparsity, abs=1e-11)
    assert schedule.points == expected
    assert schedule.at(start) == 0.9
    assert schedule.at(start + times * interval) == 0.15
    assert schedule.at(start + 1) is None
    assert schedule.every == "step"


def test_the_cubic_schedule_ends_at_its_end_where_intervals_do_not_meet_it() -> None:
    assert Schedule.cubic(0.2, start=1, end=6, interval=2).points == {
        1: 1.0,
        3: pytest.approx(0.2 + 0.8 * 0.216),
        5: pytest.approx(0.2 + 0.8 * 0.008),
        6: 0.2,
    }
    assert Schedule.cubic(0.3, start=4, end=4).points == {4: 0.3}


def test_a_function_says_what_remains_and_is_checked_as_it_is_asked() -> None:
    schedule = Schedule(lambda done: {2: 0.5, 3: 7, 4: 1.5}.get(done))
    assert [schedule.at(1), schedule.at(2), schedule.at(3)] == [None, 0.5, 7]
    with pytest.raises(BudgetError, match=r"units=1\.5 is out of range"):
        schedule.at(4)


def test_counts_and_fractions_of_single_groups_are_taken() -> None:
    points = {1: {"conv*": 0.5, "fc1": 30}, 2: {"conv*": 0.25, "fc1": 26}}
    assert Schedule(points).at(2) == {"conv*": 0.25, "fc1": 26}
    assert Schedule({1: 5000, 2: 4000}, budget="params").at(2) == 4000


WRONG = {
    "what is counted": (
        lambda: Schedule({1: 0.5}, every="batch"),
        "counts every 'batch'; it counts every epoch or step",
    ),
    "no such budget": (lambda: Schedule({1: 0.5}, budget="flops"), "no budget 'flops'; the budgets are .*weights"),
    "a quality": (lambda: Schedule({1: 0.5}, budget="max_loss_increase"), "no budget 'max_loss_increase'"),
    "what is measured": (lambda: Schedule({1: 0.5}, budget="latency"), "no budget 'latency'"),
    "nothing": (lambda: Schedule({}), "schedule is empty"),
    "epoch 0": (lambda: Schedule({0: 0.5}), "epoch 0; they are counted from 1"),
    "half an epoch": (lambda: Schedule({0.5: 0.5}), "they are counted from 1"),
    "true": (lambda: Schedule({True: 0.5}), "they are counted from 1"),
    "more than all": (lambda: Schedule({1: 1.5}), "units=1.5 is out of range"),
    "none at all": (lambda: Schedule({1: 0.0}), "units=0.0 is out of range"),
    "words": (lambda: Schedule({1: "half"}), "is not a number"),
    "one of several groups": (lambda: Schedule({1: {"a": 0.5, "b": -1}}), "units=-1 is out of range"),
    "it grows": (lambda: Schedule({1: 0.5, 3: 0.4, 2: 0.6}), "what REMAINS, and it grows: 0.5, 0.6, 0.4"),
    "counts that grow": (lambda: Schedule({1: 5, 2: 6}), "grows: 5, 6"),
    "a group that grows": (lambda: Schedule({1: {"a": 5, "b": 3}, 2: {"a": 4, "b": 4}}), "grows: 3, 4"),
    "single weights by count": (lambda: Schedule({1: 100}, budget="weights"), "weights=100 is out of range"),
    "weights that grow": (lambda: Schedule({1: 0.2, 2: 0.3}, budget="weights"), "grows"),
    "no such scope": (lambda: Schedule({1: 0.5}, scope="layer"), "no scope 'layer'"),
    "cubic backwards": (lambda: Schedule.cubic(0.5, start=5, end=4), "1 <= start <= end"),
    "cubic from 0": (lambda: Schedule.cubic(0.5, start=0, end=4), "1 <= start <= end"),
    "cubic without interval": (lambda: Schedule.cubic(0.5, start=1, end=4, interval=0), "interval >= 1"),
    "cubic upwards": (lambda: Schedule.cubic(0.5, start=1, end=4, intact=0.3), "it grows"),
    "cubic to nothing": (lambda: Schedule.cubic(0.0, start=1, end=4), "out of range"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_schedule_that_cannot_be_followed_is_refused_as_it_is_made(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(DeadheadError, match=message) as caught:
        make()
    assert isinstance(caught.value, (BudgetError, DataError))
