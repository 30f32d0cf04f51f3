"""Cutting as training goes on: the cut network trains as the masked one does, and results count from the intact one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.errors import CutError, DataError
from deadhead.training.masking.masks import Masks
from support.networks import unit_gain
from support.optimizers import INPUTS, OPTIMIZERS, TARGETS, entries_of, small, train
from support.quick import each_of
from support.snapshot import Unharmed

SHAPED = {
    "Muon, scaled": "the step of a matrix is scaled by the root of its longer side",
    "Adafactor": "averages go over rows and columns, and steps are scaled by the root mean square of a tensor",
    "noisy": "as many random numbers are drawn as there are weights",
}
"""Optimizers whose update of a weight depends on the shape of its tensor: a smaller network takes another way."""
QUICK = ("SGD", "AdamW, fused", "LBFGS", "Muon, scaled")


def keep_of_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {"fc1.weight": torch.rand(6, 16, generator=generator) > 0.2}


def apart(masked: nn.Module, cut: nn.Module, closed: dict[str, Tensor]) -> float:
    """The largest difference of an open entry, whose order a cut does not change."""
    worst, smaller = 0.0, dict(cut.state_dict())
    for name, tensor in masked.state_dict().items():
        if tensor.is_floating_point():
            kept = tensor[~closed[name]]
            assert kept.numel() == smaller[name].numel(), name
            worst = max(worst, float((kept - smaller[name].flatten()).abs().max()))
    return worst


def both(name: str) -> tuple[tuple[nn.Module, tuple[Optimizer, ...], Masks], ...]:
    """Two networks after the same three steps, with masks."""
    found = []
    for _ in range(2):
        model = small()
        optimizers = OPTIMIZERS[name](model)
        torch.manual_seed(1)
        train(model, optimizers, 3)
        found.append((model, optimizers, Masks(model, optimizers, example=INPUTS)))
    return tuple(found)


@pytest.mark.parametrize("name", each_of(OPTIMIZERS, QUICK))
def test_200_steps_after_a_cut_are_those_of_the_masked_network(name: str) -> None:
    """Of LBFGS 40 steps: it reads curvature off differences, and rounding grows tenfold in every five of them."""
    (masked, one, masks), (cut, two, others) = both(name)
    for each in (masks, others):
        each.close({"conv": [2], "fc1": [0, 5]}, reference="mean")
    objects = [id(parameter) for parameter in cut.parameters()]
    others.cut(inplace=True)
    assert [id(parameter) for parameter in cut.parameters()] == objects, "module and optimizer are the same objects"
    assert sum(map(torch.numel, cut.parameters())) < sum(map(torch.numel, masked.parameters()))
    closed = entries_of(conv=(2,), fc1=(0, 5))
    for model, optimizers in ((masked, one), (cut, two)):
        torch.manual_seed(1)
        train(model, optimizers, 40 if name == "LBFGS" else 200, seed=2, clip=0.5)
    if name in SHAPED:
        assert apart(masked, cut, closed) > 1e-6, SHAPED[name]
    else:
        assert apart(masked, cut, closed) < 1e-9


@pytest.mark.parametrize("name", each_of(("SGD", "Adam", "AdamW, together", "LBFGS"), ("Adam",)))
def test_several_rounds_with_weights_closed_beside_are_those_of_the_masked_network(name: str) -> None:
    (masked, one, masks), (cut, two, others) = both(name)
    for each in (masks, others):
        each.close_weights(keep_of_weights())
    rounds = [({"conv": [1]}, {"conv": [1]}), ({"fc1": [0, 3]}, {"fc1": [0, 3]}), ({"conv": [2], "fc1": [4]},) * 2]
    rounds[2] = (rounds[2][0], {"conv": [1], "fc1": [2]})  # as they are counted in the smaller network
    for number, (of_intact, of_now) in enumerate(rounds):
        masks.close(of_intact, reference="mean")
        others.close(of_now, reference="mean")
        others.cut(inplace=True)
        for model, optimizers in ((masked, one), (cut, two)):
            train(model, optimizers, 10 if name == "LBFGS" else 40, seed=number, clip=0.5)
    closed = entries_of(conv=(1, 2), fc1=(0, 3, 4))
    assert apart(masked, cut, closed) < 1e-9
    gone = ~keep_of_weights()["fc1.weight"]
    assert not masked.fc1.weight[gone].any()
    kept = ~(closed["fc1.weight"].all(1, keepdim=True) | closed["fc1.weight"].all(0, keepdim=True))
    still = gone[kept].reshape(cut.fc1.weight.shape)
    assert still.any()
    assert not cut.fc1.weight[still].any()
    assert cut.fc1.weight[~still].all()
    assert others.closed == {}
    pruned = others.cut()
    assert {name: units.tolist() for name, units in pruned.plan.removed.items()} == {"conv": [1, 2], "fc1": [0, 3, 4]}
    whole = masks.cut()
    assert whole.report.after.parameters == pruned.report.after.parameters
    assert whole.report.before.parameters == pruned.report.before.parameters == 4 * 4 + 8 + 17 * 6 + 7 * 3
    assert [(each.name, each.units, each.removed) for each in pruned.report.groups] == [
        ("conv", 4, [1, 2]),
        ("fc1", 6, [0, 3, 4]),
    ]


def test_a_cut_while_a_unit_of_single_weights_opens_later_gives_them_back_what_they_had() -> None:
    model = small()
    optimizers = OPTIMIZERS["Adam"](model)
    train(model, optimizers, 3)
    before = copy.deepcopy(model.state_dict())
    moments = optimizers[0].state[model.fc1.weight]["exp_avg"].clone()
    masks = Masks(model, optimizers, example=INPUTS)
    masks.close_weights(keep_of_weights())
    masks.close({"fc1": [1]})
    masks.cut(inplace=True)
    train(model, optimizers, 3)
    masks.close_weights({"fc1.weight": torch.ones(5, 16, dtype=torch.bool)})
    rows = [0, 2, 3, 4, 5]
    gone = ~keep_of_weights()["fc1.weight"][rows]
    assert torch.equal(model.fc1.weight[gone], before["fc1.weight"][rows][gone])
    assert torch.equal(optimizers[0].state[model.fc1.weight]["exp_avg"][gone], moments[rows][gone])


def test_a_cut_leaves_the_training_module_and_its_optimizer_alone(unharmed: Unharmed) -> None:
    (model, optimizers, masks), _ = both("SGD")
    masks.close({"conv": [1], "fc1": [2]})
    state = copy.deepcopy(optimizers[0].state_dict())
    with unharmed(model):
        pruned = masks.cut([(INPUTS, TARGETS)], loss="mse")
    assert torch.equal(state["state"][0]["momentum_buffer"], optimizers[0].state_dict()["state"][0]["momentum_buffer"])
    assert pruned.optimizer is not optimizers[0]
    assert {id(p) for group in pruned.optimizer.param_groups for p in group["params"]} == {
        id(parameter) for parameter in pruned.model.parameters()
    }
    assert pruned.model.training, "modes are kept"


def test_nothing_to_cut_is_no_error() -> None:
    (model, _, masks), _ = both("SGD")
    pruned = masks.cut(inplace=True)
    assert pruned.model is model
    assert pruned.plan.count == 0
    assert pruned.report.after.parameters == pruned.report.before.parameters


def test_a_network_of_which_one_unit_is_left_goes_on() -> None:
    """A group of one unit is no group any more: schedules that name it still hold."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.randn(8, 3, dtype=torch.float64)
    data = [(inputs, torch.randn(8, 2, dtype=torch.float64))]
    masks = Masks(model, optimizer, example=inputs, only=["0"])
    for fraction in (0.5, 0.25):
        closed = masks.prune(data, loss="mse", units={"0": fraction})
        assert closed
        masks.cut(inplace=True)
    for budget in ({"units": 0.25}, {"units": {"0": 0.25}}, {"units": 0.25, "scope": "all"}, {"params": 0.5}):
        assert masks.prune(data, loss="mse", **budget) == {}, budget
    pruned = masks.cut(data, loss="mse")
    assert pruned.report.before.parameters == 26
    assert pruned.report.after.parameters == 8
    assert pruned.model[0].out_features == 1
    assert len(pruned.plan.removed["0"]) == 3


def test_a_cut_that_fails_leaves_everything_as_it_was(unharmed: Unharmed, monkeypatch: pytest.MonkeyPatch) -> None:
    (model, optimizers, masks), _ = both("SGD")
    masks.close({"fc1": [2]})
    state = copy.deepcopy(optimizers[0].state_dict())
    monkeypatch.setattr("deadhead.pruning.steps.verify", lambda *_, **__: 1.0)
    with unharmed(model), pytest.raises(CutError, match="differs from its gated original"):
        masks.cut(inplace=True)
    assert masks.closed == {"fc1": [2]}
    for old, new in zip(state["state"].values(), optimizers[0].state_dict()["state"].values(), strict=True):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])


class CountedHeads(nn.Module):
    """Attention whose forward counts its heads, so that a cut has to change the number: (n, 4, 6) to (n, 4, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.enter = nn.Linear(6, 3)
        self.q, self.k, self.v, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.enter(x))
        q, k, v = (each(x).view(x.shape[0], 4, self.heads, -1).transpose(1, 2) for each in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-1, -2)).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


def test_numbers_that_a_forward_counts_are_found_while_heads_are_closed() -> None:
    """A trial cut of a closed head changes nothing: trials are made with what closed entries had."""
    model = unit_gain(CountedHeads())
    inputs = torch.randn(3, 4, 6, dtype=torch.float64)
    masks = Masks(model, None, example=inputs)
    masks.close({"enter": [1, 2], "q": [0]})
    pruned = masks.cut()
    assert pruned.model.heads == 1
    torch.testing.assert_close(pruned.model(inputs), model(inputs), rtol=1e-12, atol=1e-12)


def test_patterns_that_named_a_group_by_another_of_its_layers_hold_when_it_is_gone() -> None:
    model = unit_gain(CountedHeads())
    inputs = torch.randn(3, 4, 6, dtype=torch.float64)
    data = [(inputs, torch.randn(3, 4, 3, dtype=torch.float64))]
    masks = Masks(model, None, example=inputs, only=["v", "enter"])
    masks.close({"q": [0]})
    masks.cut(inplace=True)
    assert model.heads == 1
    assert {name: len(units) for name, units in masks.units.items()} == {"enter": 3}
    assert set(masks.prune(data, loss="mse", units={"v": 0.5, "enter": 0.4})) == {"enter"}
    with pytest.raises(DataError, match="'entry' matches no group"):
        masks.prune(data, loss="mse", units={"entry": 0.4})
