"""Dead and frozen units are named by their definitions, with their cause, and re-initialised on request."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadhead.training.watching.vitality import CONSTANT, FLAT, SMALL, UNREAD
from deadhead.training.watching.watch import Watch, watch
from support.networks import Flat, classes, unit_gain, values
from support.snapshot import bits


def network(activation: type[nn.Module] = nn.ReLU, width: int = 12) -> nn.Sequential:
    model = unit_gain(nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 3)))
    with torch.no_grad():
        model[0].bias.add_(0.5)
    return model


def look(model: nn.Module, data: Any = None, **options: Any) -> Watch:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = classes(40, 4) if data is None else data
    seen = watch(model, optimizer, data=data, loss="cross_entropy", **options)
    seen.stop()
    return seen


def kill(model: nn.Sequential, unit: int, cause: str) -> None:
    """Bring a unit of the first layer into one of the three situations."""
    with torch.no_grad():
        if cause == CONSTANT:
            model[0].weight[unit] = 0
        elif cause == FLAT:
            model[0].bias[unit] = -50
        else:
            model[2].weight[:, unit] = 0


@pytest.mark.parametrize("mrp_every", [1, None])
@pytest.mark.parametrize("site", ["producer", "consumer"])
def test_each_of_the_three_situations_is_named_as_the_cause(mrp_every: int | None, site: str) -> None:
    model = network()
    assert look(model).dead == {}
    for unit, cause in ((1, CONSTANT), (4, FLAT), (9, UNREAD)):
        kill(model, unit, cause)
    seen = look(model, mrp_every=mrp_every, site=site)
    assert seen.dead == {"0": [1, 4, 9]}
    assert seen.causes == {"0": {1: CONSTANT, 4: FLAT, 9: UNREAD}}
    assert seen.thresholds["0"]["by"] == ("mrp" if mrp_every else "mrs")


def test_a_unit_is_frozen_where_no_gradient_reaches_it_and_a_constant_one_is_not() -> None:
    model = network()
    for unit, cause in ((1, CONSTANT), (4, FLAT), (9, UNREAD)):
        kill(model, unit, cause)
    assert look(model).frozen == {"0": [4, 9]}, "unit 1 is constant, and still has a gradient that could move it"


def test_a_gradient_at_a_single_sample_keeps_a_unit_from_being_frozen_and_dead() -> None:
    model, data = network(), classes(40, 4)
    kill(model, 4, FLAT)
    with torch.no_grad():  # one sample reaches the unit's linear region
        raw = data[0][0] @ model[0].weight[4]
        model[0].bias[4] = -(raw.topk(2).values.mean())
    assert ((raw + model[0].bias[4]) > 0).sum() == 1
    for mrp_every in (1, None):
        seen = look(model, data, mrp_every=mrp_every)
        assert seen.frozen == {}
        assert seen.dead == {}


@pytest.mark.parametrize("mrp_every", [1, None])
def test_a_unit_that_switches_between_two_flat_regions_is_frozen_and_not_dead(mrp_every: int | None) -> None:
    model = network(nn.Tanh)
    with torch.no_grad():
        model[0].weight[3] *= 1e6
        model[0].bias[3] = 0
    seen = look(model, mrp_every=mrp_every)
    assert seen.frozen == {"0": [3]}
    assert seen.dead == {}


def test_a_dead_unit_stays_named_until_it_is_revived() -> None:
    model, data = network(), classes(40, 4)
    kill(model, 4, FLAT)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(data[0][0]), data[0][1]).backward()
            optimizer.step()

    with watch(model, optimizer, data=data, loss="cross_entropy", every=5) as seen:
        train(20)
        assert all(list(record.groups["0"].dead) == [4] for record in seen.history.records)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=5, revive="anew") as seen:
        train(5)
        assert seen.dead == {"0": [4]}, "what was found at this step"
        assert list(seen.history.records[-1].groups["0"].revived) == [4]
        train(5)
        assert seen.dead == {}
        assert list(seen.history.records[-1].groups["0"].revived) == []


def test_thresholds_are_relative_to_the_layer() -> None:
    model, data = network(), classes(40, 4)
    kill(model, 4, FLAT)
    seen = look(model, data)
    terms = []
    with torch.no_grad():
        hidden = model[0](data[0][0])
        intact = F.cross_entropy(model(data[0][0]), data[0][1], reduction="none")
        for unit in range(12):
            other = hidden.clone()
            other[:, unit] = hidden[:, unit].mean()
            closed = F.cross_entropy(model[2](other.relu()), data[0][1], reduction="none")
            terms.append((closed - intact).abs().max().item())
    assert seen.thresholds["0"]["dead"] == pytest.approx(
        1e-3 * sorted(terms)[8] * 0.75 + 1e-3 * sorted(terms)[9] * 0.25
    )
    wide = look(model, data, dead_below=0.5)
    assert wide.dead["0"] == [unit for unit in range(12) if terms[unit] <= 500 * seen.thresholds["0"]["dead"]]
    assert len(wide.dead["0"]) > 1


def test_a_unit_that_grew_after_an_attack_does_not_make_the_others_dead() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[3] *= 100
    assert look(model).dead == {}


def test_most_of_a_layer_may_be_dead() -> None:
    model = network()
    for unit in range(8):
        kill(model, unit, FLAT)
    assert look(model).dead == {"0": list(range(8))}


def test_a_small_variance_with_small_outgoing_weights_is_a_cause_of_its_own() -> None:
    model = network(nn.Identity)
    with torch.no_grad():
        model[0].weight[5] *= 0.01
        model[2].weight[:, 5] *= 0.01
    seen = look(model)
    assert seen.dead == {"0": [5]}
    assert seen.causes == {"0": {5: SMALL}}


def test_a_dead_channel_behind_batch_norm_is_named() -> None:
    model = unit_gain(Flat())
    with torch.no_grad():
        model.norm.bias[2] = -100
    data = classes(12, 2, 6, 6, count=4)
    seen = look(model, data)
    assert seen.dead == {"conv1": [2]}
    assert seen.causes["conv1"] == {2: FLAT}


def test_one_warning_names_layer_units_and_cause(caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    kill(model, 1, FLAT)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    caplog.set_level(logging.WARNING, "deadhead")
    with watch(model, optimizer, data=classes(40, 4), loss="cross_entropy", every=1) as seen:
        optimizer.step()
        assert not caplog.records, "one of twelve is less than a tenth"
        kill(model, 7, UNREAD)
        for _ in range(3):
            optimizer.step()
    assert seen.dead == {"0": [1, 7]}
    assert [record.message for record in caplog.records] == [
        f"2 units of 12 in 0 are dead at step 2: {FLAT}: 1; {UNREAD}: 7."
    ]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_reviving_changes_the_dead_unit_and_nothing_else(kind: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    model = unit_gain(Flat())
    data = classes(12, 2, 6, 6, count=4)
    options: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.01, **options)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=2, revive="anew"):
        for step in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(data[0][0]), data[0][1]).backward()
            if step == 1:  # the unit lived for a step, so that the optimizer has a state of it
                with torch.no_grad():
                    model.norm.bias[2] = -100
                twin, held = _twin(model, optimizer)
            before = bits(torch.get_rng_state())
            optimizer.step()
            assert before == bits(torch.get_rng_state())
    twin.step()
    for (name, expected), found in zip(held.items(), model.state_dict().values(), strict=True):
        axis = 1 if name == "conv2.weight" else 0
        own = name.startswith(("conv1", "norm")) or name == "conv2.weight"
        others = torch.tensor([0, 1, 3, 4, 5])
        if own and found.dim():
            assert torch.equal(found.index_select(axis, others), expected.index_select(axis, others)), name
        else:
            assert torch.equal(found, expected), name
    assert model.norm.weight[2] == 1
    assert model.norm.bias[2] == 0
    assert model.norm.running_mean[2] == 0
    assert model.norm.running_var[2] == 1
    assert (model.conv1.weight[2].abs() <= (1 / 18) ** 0.5).all(), "uniform, as torch's own initialisation"
    assert model.conv1.weight[2].std() > 0.05
    for value in optimizer.state[model.conv1.weight].values():
        if isinstance(value, Tensor) and value.dim():
            assert (value[2] == 0).all()
            assert (value[:2] != 0).any()


def test_what_is_revived_is_no_adjustment_by_training() -> None:
    model, data = network(), classes(40, 4)
    kill(model, 4, FLAT)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=1, revive="anew", adjustments=True) as seen:
        for _ in range(3):
            F.cross_entropy(model(data[0][0]), data[0][1]).backward()
            optimizer.step()
    assert model[0].bias[4] > -1
    assert seen.adjustments["0.bias"][4] < 1e-3


def _twin(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[torch.optim.Optimizer, dict[str, Tensor]]:
    """A copy of model and optimizer that will take the same step, without a watch."""
    other = copy.deepcopy(model)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    twin = type(optimizer)(
        other.parameters(), **{k: v for k, v in optimizer.defaults.items() if k in ("lr", "momentum")}
    )
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return twin, other.state_dict()


def test_a_network_in_half_precision_is_judged_by_the_estimate() -> None:
    model = network().bfloat16()
    data = [(inputs.bfloat16(), targets) for inputs, targets in classes(40, 4)]
    kill(model, 4, FLAT)
    kill(model, 7, CONSTANT)
    seen = look(model, data)
    assert seen.thresholds["0"]["by"] == "mrs"
    assert seen.dead == {"0": [4, 7]}
    assert seen.causes == {"0": {4: FLAT, 7: CONSTANT}}


@pytest.mark.parametrize("mrp_every", [1, None])
def test_no_unit_is_dead_because_the_loss_is_at_its_minimum(mrp_every: int | None) -> None:
    model = network()
    kill(model, 4, FLAT)
    inputs = values(40, 4)[0][0]
    seen = watch(
        model, torch.optim.SGD(model.parameters(), lr=0.1), data=[(inputs, model(inputs).detach())], loss="mse",
        mrp_every=mrp_every,
    )  # fmt: skip
    assert seen.history.loss[0] < 1e-20
    assert (seen.history.series("0", "mrs") < 1e-10).all()
    assert seen.dead == {"0": [4]}
