"""Budgets say what is left; rankings say who goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadhead as dh
from deadhead.select.budget import budget_of
from support.networks import Residual, classes, mlp, unit_gain
from support.snapshot import Unharmed

DATA = classes(20, 2, 5, 5)
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "taylor1", "compensate": "zero"}


def residual() -> nn.Module:
    return unit_gain(Residual())


def kept(pruned: dh.Pruned) -> dict[str, int]:
    return {group.name: group.kept for group in pruned.report.groups}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# -- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({}, "exactly one budget.*units=.*params="),
        ({"units": 0.5, "params": 0.5}, "exactly one budget.*units, params"),
        ({"units": 0.0}, r"out of range.*\(0, 1\]"),
        ({"units": -0.5}, r"out of range.*\(0, 1\]"),
        ({"units": 1.5}, r"out of range.*\(0, 1\]"),
        ({"units": 2.0}, "give an integer: units=2"),
        ({"params": 1.0001}, r"out of range.*\(0, 1\]"),
        ({"units": float("nan")}, "out of range"),
        ({"units": float("inf")}, "out of range"),
        ({"units": 0}, "at least 1"),
        ({"params": -3}, "at least 1"),
        ({"units": True}, "not a number"),
        ({"units": "half"}, "not a number"),
        ({"params": [0.5]}, "not a number"),
        ({"units": 1.0}, "remove none of the 15 units"),
        ({"units": 100}, "remove none of the 15 units"),
        ({"params": 1.0}, "remove none of the 15 units"),
        ({"params": 10_000_000}, "remove none of the 15 units"),
        ({"units": 0.5, "min_units": 6}, "remove none"),
        ({"units": 0.5, "round_to": 64}, "remove none"),
        ({"params": 1}, "with every group at its minimum"),
        ({"params": 0.01}, "with every group at its minimum.*min_units"),
        ({"params": 0.5, "min_units": 6}, "with every group at its minimum"),
        ({"units": {}}, "names no group"),
        ({"units": {"a1": 0.0}}, "out of range"),
        ({"units": {"a1": 1.0}}, "remove none"),
        ({"units": {"a1": 0.5, "b1": 7.5}}, "out of range"),
    ],
    ids=str,
)  # fmt: skip
def test_a_budget_that_cannot_be_kept_gets_a_sentence(budget: dict[str, Any], words: str, unharmed: Unharmed) -> None:
    model = residual()
    with unharmed(model), pytest.raises(dh.BudgetError, match=words) as caught:
        dh.prune(model, DATA, **FAST, **budget)
    assert "\n" not in str(caught.value)


def test_a_bad_budget_is_refused_before_any_data_is_read() -> None:
    def never() -> Any:
        pytest.fail("data was read")
        yield

    with pytest.raises(dh.BudgetError):
        dh.prune(residual(), never(), loss="cross_entropy", units=1.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"round_to": 0}, "round_to"),
        ({"min_units": 0}, "min_units"),
        ({"min_units": -1}, "min_units"),
        ({"rounds": 0}, "rounds"),
        ({"scope": "global"}, "scope.*group.*all"),
        ({"only": ["nothing"]}, "'nothing' matches no group.*stem"),
        ({"exclude": ["nothing*"]}, "matches no group"),
        ({"criterion": "best"}, "no criterion 'best'.*mrs"),
        ({"compensate": "magic"}, "no compensation 'magic'.*least_squares"),
        ({"loss": "entropy"}, "no loss 'entropy'.*cross_entropy"),
    ],
    ids=str,
)
def test_an_option_that_does_not_exist_gets_a_sentence_with_those_that_do(
    options: dict[str, Any], words: str, unharmed: Unharmed
) -> None:
    model = residual()
    with unharmed(model), pytest.raises(dh.DeadheadError, match=words):
        dh.prune(model, DATA, **{**FAST, "units": 0.5, **options})


def test_a_budget_is_a_fraction_if_a_float_and_a_count_if_an_integer() -> None:
    assert budget_of(units=0.5, params=None).target(7) == round(3.5)
    assert budget_of(units=1, params=None).target(7) == 1
    assert budget_of(units=None, params=1.0).target(7) == 7


# -- shares of every group -------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=3),
    units=st.one_of(st.floats(0.05, 0.95), st.integers(1, 11)),
)
def test_every_group_keeps_its_share(sizes: list[int], units: float | int) -> None:
    model = mlp(3, *sizes, 3)
    expected = [max(1, round(units * size)) if isinstance(units, float) else min(units, size) for size in sizes]
    if expected == sizes:
        with pytest.raises(dh.BudgetError, match="none"):
            dh.prune(model, classes(8, 3), **{**FAST, "criterion": "magnitude"}, units=units)
        return
    pruned = dh.prune(model, classes(8, 3), **{**FAST, "criterion": "magnitude"}, units=units)
    assert list(kept(pruned).values()) == expected
    assert [pruned.model[2 * i].out_features for i in range(len(sizes))] == expected


@pytest.mark.parametrize(("size", "left"), [(2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 4), (9, 4), (11, 6)])
def test_half_of_the_units_is_half_rounded_as_python_rounds(size: int, left: int) -> None:
    pruned = dh.prune(mlp(3, size, 3), classes(8, 3), **FAST, units=0.5)
    assert pruned.model[0].out_features == left == max(1, round(size / 2))


def test_a_mapping_gives_each_group_its_own_share_and_leaves_the_others() -> None:
    pruned = dh.prune(residual(), DATA, **FAST, units={"a1": 0.5, "b1": 2, "[as]*": 0.9})
    assert kept(pruned) == {"stem": 5, "a1": 2, "b1": 2}, "the first pattern that matches counts"
    pruned = dh.prune(residual(), DATA, **FAST, units={"a1": 1})
    assert kept(pruned) == {"stem": 6, "a1": 1, "b1": 5}


def test_only_and_exclude_say_which_groups_are_touched() -> None:
    only = dh.prune(residual(), DATA, **FAST, units=0.5, only="a1")
    assert {name: group.kept for name, group in zip(kept(only), only.report.groups, strict=True)} == {"a1": 2}
    excluded = dh.prune(residual(), DATA, **FAST, units=0.5, exclude=["stem"])
    assert kept(excluded) == {"a1": 2, "b1": 2}
    assert ("stem", "excluded by the caller") in excluded.report.left_alone


@pytest.mark.parametrize("round_to", [2, 4])
@pytest.mark.parametrize("units", [0.3, 0.5, 3])
def test_multiples_stay_or_the_whole_group(round_to: int, units: float | int) -> None:
    pruned = dh.prune(mlp(3, 12, 9, 3, 3), classes(8, 3), **FAST, units=units, round_to=round_to)
    for size, left in zip((12, 9, 3), kept(pruned).values(), strict=True):
        wanted = max(1, round(units * size)) if isinstance(units, float) else min(units, size)
        assert left >= wanted
        assert left % round_to == 0 or left == size
        assert left - wanted < round_to


def test_at_least_so_many_units_stay() -> None:
    pruned = dh.prune(residual(), DATA, **FAST, units=1, min_units=3)
    assert kept(pruned) == {"stem": 3, "a1": 3, "b1": 3}


def test_the_units_that_go_are_those_with_the_least_saliency() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, **FAST, units=0.5)
    for group in pruned.report.groups:
        saliency = torch.tensor(group.saliency)
        gone = torch.zeros(group.units, dtype=torch.bool).index_fill_(0, torch.tensor(group.removed), True)
        assert saliency[gone].max() <= saliency[~gone].min()
        assert group.removed == sorted(group.removed)
    assert len(pruned.plan.order) == pruned.plan.count == sum(len(g.removed) for g in pruned.report.groups)


# -- one ranking over all --------------------------------------------------------------------------------------------


def again(model: nn.Module, pruned: dh.Pruned, order: list[tuple[str, int]]) -> int:
    """The number of parameters that a plan of these units leaves, with_ties on tensors that were really cut."""
    gone: dict[str, list[int]] = {}
    for name, unit in order:
        gone.setdefault(name, []).append(unit)
    network = dh.trace(model, DATA[0][0])
    dead: dict[str, dict[int, set[int]]] = {}
    for group in network.groups:
        for part in group.slices:
            for index, unit in enumerate(part.units.tolist()):
                if unit in gone.get(group.name, []):
                    dead.setdefault(part.parameter, {}).setdefault(part.axis, set()).add(index)
    total = 0
    for name, parameter in model.named_parameters():
        shape = list(parameter.shape)
        for axis, indices in dead.get(name, {}).items():
            shape[axis] -= len(indices)
        total += int(torch.Size(shape).numel())
    return total


@pytest.mark.parametrize("params", [0.3, 0.5, 0.8, 0.95, 150, 300])
@pytest.mark.parametrize("criterion", ["taylor1", "magnitude"])
def test_a_target_of_parameters_is_met_and_not_by_more_than_a_unit(params: float | int, criterion: str) -> None:
    model = residual()
    pruned = dh.prune(model, DATA, **{**FAST, "criterion": criterion}, params=params)
    intact = parameters(model)
    target = round(params * intact) if isinstance(params, float) else params
    assert parameters(pruned.model) <= target
    assert parameters(pruned.model) == again(model, pruned, pruned.plan.order) == pruned.report.after.parameters
    assert again(model, pruned, pruned.plan.order[:-1]) > target


def test_the_target_of_parameters_counts_biases_that_are_new() -> None:
    model = unit_gain(nn.Sequential(nn.Linear(2, 4, bias=False), nn.Tanh(), nn.Linear(4, 30, bias=False),
                                    nn.Tanh(), nn.Linear(30, 3)))  # fmt: skip
    pruned = dh.prune(model, classes(60, 2), loss="cross_entropy", criterion="magnitude", only="0", params=0.9)
    assert parameters(pruned.model) <= round(0.9 * parameters(model))


def test_tied_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z, self.a, self.out = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)
            self.a.weight = self.z.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.a(x)) + torch.sin(self.z(x)))

    model = unit_gain(Tied())
    pruned = dh.prune(model, classes(20, 4), **FAST, params=0.5)
    assert parameters(pruned.model) <= round(0.5 * parameters(model))
    assert parameters(pruned.model) + 4 + 2 + 3 > round(0.5 * parameters(model)), "a unit has so many parameters"
    assert pruned.model.a.weight is pruned.model.z.weight


def test_one_ranking_over_all_groups_takes_the_least_of_all() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, **FAST, units=0.6, scope="all")
    scores = [(value, group.name, unit) for group in pruned.report.groups for unit, value in enumerate(group.saliency)]
    assert sum(kept(pruned).values()) == round(0.6 * 15)
    expected = [(name, unit) for _, name, unit in sorted(scores)][: 15 - round(0.6 * 15)]
    assert pruned.plan.order == expected, "no group is down to its last unit here"


def test_no_group_is_emptied_by_one_ranking() -> None:
    model = residual()
    with torch.no_grad():
        model.a1.weight.zero_()
        model.a1.bias.zero_()
    pruned = dh.prune(model, DATA, **{**FAST, "criterion": "mrs"}, units=0.5, scope="all")
    assert kept(pruned)["a1"] == 1
    with pytest.raises(dh.BudgetError, match="smallest"):
        dh.prune(model, DATA, **FAST, units=2, scope="all")


def test_a_ranking_over_all_of_scores_in_different_units_divides_by_the_groups_mean() -> None:
    model = residual()
    with torch.no_grad():
        model.b1.weight.mul_(1e-3)
        model.b2.weight.mul_(1e3)
    pruned = dh.prune(model, DATA, **{**FAST, "criterion": "magnitude"}, units=0.6, scope="all")
    assert kept(pruned)["b1"] > 1, "small weights alone do not make a group's units worthless"


# -- rounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"units": 0.5}, {"units": 0.5, "scope": "all"}, {"params": 0.4}], ids=str)
@pytest.mark.parametrize("compensate", ["zero", "least_squares"])
def test_rounds_reach_the_same_budget_and_never_take_a_unit_back(budget: dict[str, Any], compensate: str) -> None:
    options = {**FAST, "compensate": compensate, **budget}
    single = dh.prune(residual(), DATA, **options)
    several = dh.prune(residual(), DATA, **options, rounds=3)
    assert len(set(several.plan.order)) == several.plan.count
    if "params" in budget:
        assert parameters(several.model) <= round(0.4 * parameters(residual()))
    else:
        assert several.plan.count == single.plan.count
    assert several.report.difference <= 1e-10


def test_every_round_judges_the_network_without_what_went_before() -> None:
    """Two units that say the same: the single ranking takes both, re-ranking one of them."""
    model = mlp(3, 6, 3)
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
        model[2].weight[:, 1] = model[2].weight[:, 0]
    data = classes(40, 3)
    fit = {"loss": "cross_entropy", "criterion": "oracle", "compensate": "zero", "units": 3}
    pruned = dh.prune(model, data, **fit, rounds=3)
    order, closed = [], []
    network = dh.trace(model, data[0][0])
    from deadhead.data.calibration import calibrate, read

    part = calibrate(read(data)).fit
    inputs = torch.cat([batch.inputs for batch in part])
    targets = torch.cat([batch.targets for batch in part])

    def loss(gone: list[int]) -> float:
        hidden = model[1](model[0](inputs)).index_fill(1, torch.tensor(gone, dtype=torch.long), 0.0)
        return float(nn.functional.cross_entropy(model[2](hidden), targets))

    with torch.no_grad():
        for _ in range(3):
            costs = {unit: loss([*closed, unit]) for unit in range(6) if unit not in closed}
            closed.append(min(costs, key=costs.__getitem__))
            order.append(("0", closed[-1]))
    assert pruned.plan.order == order
    assert len(network.groups) == 1
