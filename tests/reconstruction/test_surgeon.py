"""Choosing blocks of columns with compensation, against dense least squares and all subsets."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from deadhead.reconstruction.surgeon import Side, choose, damped


def problem(
    units: int, width: int, outputs: int, seed: int = 0, free: int | None = None, fixed: int = 2
) -> tuple[Side, Tensor, Tensor]:
    """A side of correlated columns in a mixed order, with its Gram matrix and targets."""
    generator = torch.Generator().manual_seed(seed)
    n = units * width + fixed
    mixing = torch.randn(n, n, generator=generator, dtype=torch.float64)
    a = torch.randn(400, n, generator=generator, dtype=torch.float64) @ mixing + 0.3
    wide = torch.cat([a, torch.ones(400, 1, dtype=torch.float64)], 1)
    weight = torch.randn(outputs, n + 1, generator=generator, dtype=torch.float64)
    gram = damped(wide.T @ wide / 400, 1e-3)
    y = wide @ weight.T + 0.5 * torch.randn(400, outputs, generator=generator, dtype=torch.float64)
    order = torch.randperm(n, generator=generator)
    owner = torch.cat([torch.arange(units).repeat_interleave(width), torch.full((fixed,), -1)])[order]
    there = torch.ones(n + 1, dtype=torch.bool)
    if free is not None:
        there[free] = False
    return Side(gram, y.T @ wide / 400, torch.cat([owner, torch.tensor([-1])]), there), gram, weight


def least(side: Side, removed: tuple[int, ...]) -> float:
    """`J - E y^2` of the best weights without some units: `-tr(C_S (G_SS)^-1 C_S^T)`."""
    kept = (side.present & ~torch.isin(side.units, torch.tensor(removed, dtype=torch.int64))).nonzero()[:, 0]
    cross = side.target[:, kept]
    return -float((cross @ torch.linalg.solve(side.gram[kept][:, kept], cross.T)).trace())


CASES = [(6, 1, 3), (5, 3, 4), (7, 2, 1)]


@pytest.mark.parametrize(("units", "width", "outputs"), CASES)
@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("free", [None, 0])
def test_costs_are_the_increase_of_a_dense_least_squares(
    units: int, width: int, outputs: int, sides: int, free: int | None
) -> None:
    made = [problem(units, width, outputs, seed, free)[0] for seed in range(sides)]
    found = choose(made, units, units - 1, sweeps=0)
    for step in range(units - 1):
        gone = tuple(found.order[: step + 1])
        before = sum(least(side, gone[:-1]) for side in made)
        now = sum(least(side, gone) for side in made)
        assert found.costs[step] == pytest.approx(now - before, rel=1e-8)
        others = [sum(least(s, (*gone[:-1], u)) for s in made) for u in range(units) if u not in gone]
        assert now <= min(others, default=now) + 1e-9 * abs(now)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("units", "width", "count"), [(10, 1, 5), (8, 2, 3), (12, 1, 8)])
def test_swaps_lower_the_cost_and_none_is_left_that_would(seed: int, units: int, width: int, count: int) -> None:
    side = problem(units, width, 3, seed)[0]
    greedy, searched = choose([side], units, count, sweeps=0), choose([side], units, count, sweeps=20)
    base = least(side, ())
    assert searched.total <= greedy.total * (1 + 1e-9)
    assert searched.total == pytest.approx(least(side, tuple(searched.order)) - base, rel=1e-6)
    assert sorted(set(searched.order)) == sorted(searched.order)
    for unit in searched.order:
        rest = [each for each in searched.order if each != unit]
        for other in range(units):
            if other not in searched.order:
                assert least(side, (*rest, other)) - base >= searched.total * (1 - 1e-5)


def test_the_search_is_near_the_best_of_all_subsets() -> None:
    """Over 30 problems: one removal is the best, and of several all but a few are; greedy choice alone costs up to four
    times as much."""
    ratios = {"greedy": [], "searched": []}  # type: dict[str, list[float]]
    for seed in range(30):
        side = problem(9, 1, 2, seed)[0]
        base = least(side, ())
        for count in (1, 4):
            best = min(least(side, subset) - base for subset in itertools.combinations(range(9), count))
            found = choose([side], 9, count)
            if count == 1:
                assert found.total == pytest.approx(best, rel=1e-6)
            else:
                ratios["searched"].append(found.total / best)
                ratios["greedy"].append(choose([side], 9, count, sweeps=0, tries=0).total / best)
    assert min(ratios["searched"]) >= 1 - 1e-8
    assert max(ratios["searched"]) <= 1.1
    assert sum(ratio < 1 + 1e-6 for ratio in ratios["searched"]) >= 28
    assert 1.5 < max(ratios["greedy"]) < 5


def test_what_a_unit_costs_besides_counts() -> None:
    side = problem(6, 1, 2)[0]
    plain = choose([side], 6, 1, sweeps=0)
    extra = torch.zeros(6)
    extra[plain.order[0]] = 1e9
    found = choose([side], 6, 1, extra, sweeps=0)
    assert found.order != plain.order
    assert choose([], 3, 2, torch.tensor([3.0, 1.0, 2.0])).order == [1, 2]


def test_a_constant_unit_goes_for_nothing_and_twins_go_one_for_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    a[:, 1] = 2.5
    a[:, 3] = a[:, 2]
    wide = torch.cat([a, torch.ones(200, 1, dtype=torch.float64)], 1)
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.5]], dtype=torch.float64)
    gram = damped(wide.T @ wide / 200, 1e-9)
    side = Side(gram, weight @ gram, torch.tensor([0, 1, 2, 3, -1]), torch.ones(5, dtype=torch.bool))
    found = choose([side], 4, 3, sweeps=0)
    assert found.order[0] == 1 or found.order[0] in (2, 3)
    assert set(found.order[:2]) & {1}
    assert found.costs[0] < 1e-6
    assert found.costs[1] < 1e-6
    assert found.costs[2] > 0.5


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_half_the_costs_in_turn_and_what_the_others_would_cost_next(seed: int) -> None:
    side = problem(9, 1, 2, seed)[0]
    found = choose([side], 9, 4)
    scores, base = found.scores(), least(side, ())
    before = base
    for place in range(4):
        now = least(side, tuple(found.order[: place + 1]))
        assert found.costs[place] == pytest.approx(now - before, rel=1e-6, abs=1e-9)
        before = now
    assert sum(found.costs) == pytest.approx(found.total, rel=1e-6)
    assert scores[found.order].diff().min() >= 0
    assert scores[found.order].max() == pytest.approx(0.5 * max(found.costs), rel=1e-6)
    for unit in set(range(9)) - set(found.order):
        next_cost = least(side, (*found.order, unit)) - before
        assert scores[unit].item() == pytest.approx(0.5 * max(next_cost, max(found.costs)), rel=1e-6)
