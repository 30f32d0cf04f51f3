"""A budget is spent over groups so that least is lost: against all ways to spend it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.select.budget import Budget
from deadhead.select.knapsack import slopes, spend
from deadhead.select.ranking import Constraints, overall, removals_until
from deadhead.select.sizes import Sizes
from support.networks import Residual, classes, unit_gain


def uneven() -> nn.Module:
    """Groups whose units take very different numbers of parameters and multiply-adds."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 7), nn.ReLU(),
        nn.Linear(7, 3),
    )  # fmt: skip


def setting(seed: int) -> tuple[dh.Network, Sizes, dict[str, Tensor]]:
    network = dh.trace(uneven(), torch.randn(2, 1, 8, 8))
    generator = torch.Generator().manual_seed(seed)
    saliencies = {
        group.name: torch.rand(group.size, generator=generator, dtype=torch.float64) ** 2 * 10**-place
        for place, group in enumerate(network.groups)
    }
    return network, Sizes(network, network.groups), saliencies


def lost(saliencies: dict[str, Tensor], counts: dict[str, int]) -> float:
    return sum(float(saliencies[name].sort().values[:count].sum()) for name, count in counts.items())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["params", "macs"])
@pytest.mark.parametrize("share", [0.7, 0.4])
def test_no_way_to_spend_loses_much_less(seed: int, kind: str, share: float) -> None:
    network, sizes, saliencies = setting(seed)
    size = {"params": sizes.parameters, "macs": sizes.macs}[kind]
    budget = Budget(kind, share)

    counts = spend(network.groups, saliencies, Constraints(), budget, size).counts(10**6)
    target = budget.target(size({}))
    assert size(counts) <= target
    names = [group.name for group in network.groups]
    ways = itertools.product(*(range(group.size) for group in network.groups))
    allowed = (dict(zip(names, way, strict=True)) for way in ways)
    best = min(lost(saliencies, way) for way in allowed if size(way) <= target)
    plain = overall(network.groups, saliencies, Constraints())
    by_threshold = lost(saliencies, plain.counts(removals_until(plain, budget, size)))
    found = lost(saliencies, counts)
    assert best * (1 - 1e-9) <= found <= 1.1 * best
    assert found <= by_threshold * (1 + 1e-9)


def test_it_is_better_than_one_threshold_by_far_somewhere() -> None:
    gains = []
    for seed in range(6):
        network, sizes, given = setting(seed)
        saliencies = {name: value / value.mean() for name, value in given.items()}
        budget = Budget("params", 0.5)
        plain = overall(network.groups, saliencies, Constraints())
        threshold = lost(saliencies, plain.counts(removals_until(plain, budget, sizes.parameters)))
        counts = spend(network.groups, saliencies, Constraints(), budget, sizes.parameters).counts(10**6)
        gains.append(threshold / lost(saliencies, counts))
    assert min(gains) >= 1 - 1e-9
    assert max(gains) > 1.3


def test_a_limit_of_the_loss_ranks_by_what_a_unit_saves() -> None:
    network, sizes, _ = setting(0)
    even = {group.name: torch.arange(1.0, group.size + 1).double() for group in network.groups}
    ranking = overall(network.groups, even, Constraints(), slopes(network.groups, sizes.parameters, {}))
    saved = {group.name: sizes.parameters({}) - sizes.parameters({group.name: 1}) for group in network.groups}
    assert ranking.order[0][0] == max(saved, key=saved.__getitem__)


def test_what_is_gone_stays_gone() -> None:
    network, sizes, saliencies = setting(1)
    name = network.groups[0].name
    saliencies[name][[2, 4]] = float("-inf")
    ranking = spend(network.groups, saliencies, Constraints(), Budget("params", 0.9), sizes.parameters)
    assert {(name, 2), (name, 4)} <= set(ranking.order)


def test_groups_that_are_tied_go_together() -> None:
    model, data = unit_gain(Residual()), classes(30, 2, 5, 5)
    found = dh.prune(model, data, loss="cross_entropy", params=0.5, criterion="mrs", round_to=2)
    assert found.report.after.parameters <= 0.5 * found.report.before.parameters
    assert all(group.kept % 2 == 0 or not group.removed for group in found.report.groups)
