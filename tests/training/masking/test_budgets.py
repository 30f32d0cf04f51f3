"""What a round of pruning closes: budgets are of the intact network, and what is closed counts as removed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.training.masking.masks import Masks
from support.networks import Residual, classes, mlp, unit_gain
from support.quick import each_of

DATA = classes(40, 3, count=4, batch=10)


def made(only: tuple[str, ...] = ()) -> tuple[nn.Module, torch.optim.Optimizer, Masks]:
    model = mlp(3, 10, 8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, optimizer, Masks(model, optimizer, example=DATA[0][0], only=only)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for inputs, targets in DATA:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def counts(closed: dict[str, list[int]]) -> dict[str, int]:
    return {name: len(units) for name, units in closed.items()}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("scope", each_of(("group", "all"), ("group",)))
def test_a_fraction_is_one_of_the_intact_network_in_every_round(inplace: bool, scope: str) -> None:
    model, optimizer, masks = made()
    open_units = []
    for fraction in (0.8, 0.5, 0.5, 0.25, 0.1):
        masks.prune(DATA, loss="cross_entropy", units=fraction, scope=scope)
        if inplace:
            masks.cut(inplace=True)
        step(model, optimizer)
        pruned = masks.cut()
        open_units.append((pruned.model[0].out_features, pruned.model[2].out_features))
    if scope == "group":
        assert open_units == [(8, 6), (5, 4), (5, 4), (2, 2), (1, 1)]
    else:
        assert [sum(each) for each in open_units] == [14, 9, 9, 4, 2]
    removed = pruned.plan.removed
    assert [len(removed["0"]), len(removed["2"])] == [9, 7], "units are those of the intact network"
    assert max(removed["0"]) <= 9
    assert pruned.report.before.parameters == 40 + 88 + 36


def test_what_is_closed_by_hand_counts_and_stays_closed() -> None:
    _, _, masks = made()
    masks.close({"0": [0, 1, 2], "2": [7]})
    new = masks.prune(DATA, loss="cross_entropy", units=0.5)
    assert counts(new) == {"0": 2, "2": 3}
    assert {0, 1, 2} < set(masks.closed["0"])
    assert 7 in masks.closed["2"]
    assert not {0, 1, 2} & set(new["0"])
    assert masks.prune(DATA, loss="cross_entropy", units=0.5) == {}, "nothing new is no error"
    assert masks.prune(DATA, loss="cross_entropy", units=0.9) == {}
    assert counts(masks.closed) == {"0": 5, "2": 4}


def test_counts_and_patterns_are_taken() -> None:
    _, _, masks = made()
    assert counts(masks.prune(DATA, loss="cross_entropy", units={"0": 7, "2": 0.75})) == {"0": 3, "2": 2}
    assert counts(masks.prune(DATA, loss="cross_entropy", units={"2": 0.5})) == {"2": 2}
    assert counts(masks.prune(DATA, loss="cross_entropy", units=3)) == {"0": 4, "2": 1}


def parameters_of(masks: Masks) -> tuple[int, int]:
    """Parameters and multiply-adds that would remain, from the numbers of open units."""
    a, b = (int((~masks.units[name]).sum()) for name in ("0", "2"))
    return 4 * a + (a + 1) * b + (b + 1) * 4, 3 * a + a * b + 4 * b


@pytest.mark.parametrize(("budget", "place"), [("params", 0), ("macs", 1)])
@pytest.mark.parametrize("inplace", each_of((False, True), (True,)))
def test_sizes_are_of_the_intact_network(budget: str, place: int, inplace: bool) -> None:
    _, _, masks = made()
    whole = parameters_of(masks)[place]
    assert whole == (164, 142)[place]
    for fraction in (0.7, 0.4):
        masks.prune(DATA, loss="cross_entropy", **{budget: fraction})
        if inplace:
            masks.cut(inplace=True)
        left = parameters_of(masks)[place]
        assert 0.5 * fraction * whole < left <= fraction * whole
    report = masks.cut(DATA, loss="cross_entropy").report
    assert (report.after.parameters, report.after.macs)[place] == left
    assert masks.prune(DATA, loss="cross_entropy", **{budget: 0.4}) == {}


def test_a_quality_limits_what_a_round_loses() -> None:
    model, optimizer, masks = made()
    for _ in range(5):
        step(model, optimizer)
    before = _loss(model)
    masks.prune(DATA, loss="cross_entropy", max_loss_increase=0.05)
    assert masks.closed
    assert _loss(model) < before + 0.2
    some = dict(masks.closed)
    masks.prune(DATA, loss="cross_entropy", max_loss_increase=0.0)
    assert all(set(units) <= set(masks.closed[name]) for name, units in some.items())


def _loss(model: nn.Module) -> float:
    with torch.no_grad():
        return float(sum(nn.functional.cross_entropy(model(inputs), targets) for inputs, targets in DATA) / len(DATA))


@pytest.mark.parametrize("scope", ["group", "all"])
@pytest.mark.parametrize("inplace", [False, True])
def test_weights_are_closed_from_the_smallest_on_as_in_a_plain_loop(scope: str, inplace: bool) -> None:
    model, optimizer, masks = made()
    names = ["0.weight", "2.weight", "4.weight"]
    sizes = {name: dict(model.named_parameters())[name].numel() for name in names}
    masks.close({"0": [9]})
    if inplace:
        masks.cut(inplace=True)
    for fraction in (0.6, 0.3):
        entries = [
            (abs(float(value)), name, place)
            for name in names
            for place, value in enumerate(dict(model.named_parameters())[name].detach().flatten().tolist())
        ]
        expected: set[tuple[str, int]] = set()
        for chosen in [[name] for name in names] if scope == "group" else [names]:
            mine = sorted(entry for entry in entries if entry[1] in chosen)
            keep = round(fraction * sum(sizes[name] for name in chosen))
            expected |= {(name, place) for _, name, place in mine[len(mine) - keep :]}
        assert masks.prune(weights=fraction, scope=scope) == {}
        left = {
            (name, place)
            for name in names
            for place, value in enumerate(dict(model.named_parameters())[name].detach().flatten().tolist())
            if value != 0
        }
        assert left == expected
        step(model, optimizer)
        assert all(not dict(model.named_parameters())[n].flatten()[p] for _, n, p in entries if (n, p) not in left)
    assert model[2].bias.all()


def test_weights_closed_one_by_one_stay_closed_when_their_unit_opens() -> None:
    model, _, masks = made()
    keep = torch.ones(10, 3, dtype=torch.bool)
    keep[4] = torch.tensor([True, False, True])
    masks.close_weights({"0.weight": keep})
    masks.close({"0": [4]})
    masks.prune(weights=0.9)
    masks.open()
    assert (model[0].weight[4] != 0).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("criterion", "compensate"),
    [("obs", "mean"), ("magnitude", "zero"), ("mrs", "least_squares"), ("obs", "gauss_newton"), ("random", "mean")],
)
def test_criteria_and_compensations_work_beside_closed_units(criterion: str, compensate: str) -> None:
    model, optimizer, masks = made()
    step(model, optimizer)
    masks.close({"0": [2, 5], "2": [1]})
    options: dict[str, Any] = {"criterion": criterion, "compensate": compensate}
    new = masks.prune(DATA, loss="cross_entropy", units=0.5, **options)
    assert counts(new) == {"0": 3, "2": 3}
    assert {2, 5} <= set(masks.closed["0"])
    for name, closed in masks.closed.items():
        layer, reader = model[int(name)], model[int(name) + 2]
        assert not layer.weight[closed].any()
        assert not layer.bias[closed].any()
        assert not reader.weight[:, closed].any()
    step(model, optimizer)
    pruned = masks.cut(DATA, loss="cross_entropy")
    torch.testing.assert_close(pruned.model(DATA[0][0]), model(DATA[0][0]), rtol=1e-10, atol=1e-10)


def test_least_squares_refits_what_remains() -> None:
    """The outputs are nearer those of the intact network than without, and compensation is that of a prune."""
    outputs = {}
    for compensate in ("zero", "mean", "least_squares"):
        model, _, masks = made(only=("0",))
        intact = torch.cat([model(inputs).detach() for inputs, _ in DATA])
        masks.prune(DATA, loss="cross_entropy", units=0.5, criterion="magnitude", compensate=compensate)
        with torch.no_grad():
            outputs[compensate] = float((torch.cat([model(inputs) for inputs, _ in DATA]) - intact).square().mean())
        pruned = dh.prune(
            mlp(3, 10, 8, 4), DATA, loss="cross_entropy", units=0.5, criterion="magnitude", compensate=compensate,
            only=["0"], samples=1024, curve=0,
        )  # fmt: skip
        torch.testing.assert_close(pruned.model(DATA[0][0]), model(DATA[0][0]), rtol=1e-9, atol=1e-9)
    assert outputs["least_squares"] < 0.7 * min(outputs["mean"], outputs["zero"])


def test_rounds_on_a_residual_network_close_what_a_prune_removes() -> None:
    model = unit_gain(Residual())
    data = classes(20, 2, 5, 5, batch=10)
    whole = dh.prune(model, data, loss="cross_entropy", units=0.5, criterion="mrs", compensate="mean", curve=0)
    masks = Masks(model, None, example=data[0][0])
    masks.prune(data, loss="cross_entropy", units=0.5)
    assert masks.closed == {name: sorted(units.tolist()) for name, units in whole.plan.removed.items()}
    found: Tensor = model(data[0][0])
    torch.testing.assert_close(found, whole.model(data[0][0]), rtol=1e-10, atol=1e-10)


def test_weights_that_are_closed_stay_closed_whatever_the_next_ranking_says() -> None:
    model, _, masks = made()
    for seed, fraction in enumerate((0.6, 0.3)):
        closed = {name: tensor == 0 for name, tensor in model.named_parameters()}
        masks.prune(weights=fraction, criterion="random", seed=seed)
        for name, tensor in model.named_parameters():
            assert not tensor[closed[name]].any(), name
            if tensor.dim() > 1:
                assert int((tensor != 0).sum()) == round(fraction * tensor.numel())
