"""An attack is the optimizer's own step at another learning rate for one unit's incoming weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.training.watching.attack import Attack
from deadhead.training.watching.watch import watch
from support.networks import Flat, classes, mlp, unit_gain, values

Update = Callable[[Tensor, Tensor, dict[str, Tensor], Any, int], Tensor]
"""(weight, gradient, state, learning rate of each entry, number of the step from 1) to the new weight."""


def sgd(momentum: float = 0.0, decay: float = 0.0, nesterov: bool = False) -> Update:
    def update(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], rate: Any, step: int) -> Tensor:
        gradient = gradient + decay * weight
        if momentum:
            state["v"] = gradient if "v" not in state else momentum * state["v"] + gradient
            gradient = gradient + momentum * state["v"] if nesterov else state["v"]
        return weight - rate * gradient

    return update


def adam(decay: float = 0.0) -> Update:
    def update(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], rate: Any, step: int) -> Tensor:
        m = 0.9 * state.get("m", torch.zeros_like(weight)) + 0.1 * gradient
        v = 0.999 * state.get("v", torch.zeros_like(weight)) + 0.001 * gradient**2
        state.update(m=m, v=v)
        weight = weight - rate * decay * weight
        return weight - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)

    return update


def rmsprop(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], rate: Any, step: int) -> Tensor:
    state["v"] = 0.99 * state.get("v", torch.zeros_like(weight)) + 0.01 * gradient**2
    return weight - rate * gradient / (state["v"].sqrt() + 1e-8)


CASES: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], Update, float]] = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.05), sgd(), 0.05),
    "momentum and weight decay": (
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01), sgd(0.9, 0.01), 0.05,
    ),
    "nesterov": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True), sgd(0.9, nesterov=True), 0.05),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), adam(), 0.01),
    "adam, one by one": (lambda p: torch.optim.Adam(p, lr=0.01, foreach=False), adam(), 0.01),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), adam(0.1), 0.01),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=0.01), rmsprop, 0.01),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_attack_is_the_step_at_a_multiplied_learning_rate(name: str) -> None:
    make, update, rate = CASES[name]
    model, data = mlp(3, 5, 2), values(10, 3)
    reference = copy.deepcopy(model)
    optimizer = make(model.parameters())
    states: list[dict[str, Tensor]] = [{} for _ in reference.parameters()]
    with Attack(
        optimizer, "0", 2, start=2, repeats=3, interval=2, multiplier=20, model=dh.trace(model, data[0][0])
    ) as attack:
        for step in range(10):
            for each in (model, reference):
                each.zero_grad()
                F.mse_loss(each(data[0][0]), data[0][1]).backward()
            optimizer.step()
            with torch.no_grad():
                for (key, weight), state in zip(reference.named_parameters(), states, strict=True):
                    rates = torch.full_like(weight, rate)
                    if key == "0.weight" and step in (2, 4, 6):
                        rates[2] *= 20
                    weight.copy_(update(weight, weight.grad, state, rates, step + 1))
    assert attack.steps == [2, 4, 6]
    for found, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def one_step(trained: nn.Module, data: Any, *attack: Any, **options: Any) -> dict[str, Tensor]:
    """How much more than without the attack each entry moved in a single step of SGD."""
    plain = copy.deepcopy(trained)
    before = {name: each.detach().clone() for name, each in trained.named_parameters()}
    for each in (plain, trained):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.01)
        made = Attack(optimizer, *attack, **options) if each is trained else None
        F.cross_entropy(each(data[0][0]), data[0][1]).backward()
        optimizer.step()
        if made is not None:
            made.stop()
            assert not optimizer._optimizer_step_post_hooks
    own, other = dict(trained.named_parameters()), dict(plain.named_parameters())
    return {name: ((own[name] - before[name]) / (other[name] - before[name])).detach() for name in before}


@pytest.mark.parametrize("by", ["group", "module and example", "name", "parameter"])
def test_only_the_incoming_weights_of_the_unit_are_attacked(by: str) -> None:
    model, data = unit_gain(Flat()), classes(12, 2, 6, 6, count=4)
    options: dict[str, Any] = {}
    target: Any = "conv2" if by in ("group", "module and example") else "conv2.weight"
    if by == "group":
        options = {"model": dh.trace(model, data[0][0])}
    elif by == "module and example":
        options = {"model": model, "example": data[0][0]}
    elif by == "name":
        options = {"model": model}
    else:
        target = model.conv2.weight
    found = one_step(model, data, target, 3, 0, 1, 1, 7.0, **options)
    for name, ratio in found.items():
        expected = torch.ones_like(ratio)
        if name == "conv2.weight":
            expected[3] = 7.0
        torch.testing.assert_close(ratio, expected, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_a_transposed_convolution_has_its_units_along_another_axis() -> None:
    model = unit_gain(nn.Sequential(nn.ConvTranspose2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(100, 3)))
    data = classes(6, 2, 3, 3)
    ratio = one_step(model, data, "0", 1, 0, 1, 1, 7.0, model=dh.trace(model, data[0][0]))["0.weight"]
    expected = torch.ones_like(ratio)
    expected[:, 1] = 7.0
    torch.testing.assert_close(ratio, expected, rtol=1e-6, atol=1e-6)


def test_an_optimizer_with_a_closure_is_attacked() -> None:
    model, data = mlp(3, 5, 2), values(10, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
    plain = copy.deepcopy(model)
    other = torch.optim.LBFGS(plain.parameters(), lr=0.1, max_iter=2)
    start = model[0].weight.detach().clone()

    def closure(each: nn.Module, own: torch.optim.Optimizer) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            own.zero_grad()
            value = F.mse_loss(each(data[0][0]), data[0][1])
            value.backward()
            return value

        return loss

    with Attack(optimizer, model[0].weight, 1, 0, 1, 1, 5.0):
        optimizer.step(closure(model, optimizer))
    other.step(closure(plain, other))
    ratio = (model[0].weight - start) / (plain[0].weight - start)
    torch.testing.assert_close(ratio[1], torch.full((3,), 5.0, dtype=torch.float64))
    torch.testing.assert_close(ratio[[0, 2, 3, 4]], torch.ones(4, 3, dtype=torch.float64))


def test_a_watch_made_before_the_attack_measures_after_it() -> None:
    model, data = mlp(3, 5, 2), values(10, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with (
        watch(model, optimizer, data=data, loss="mse", every=1, adjustments=True) as seen,
        Attack(optimizer, model[0].weight, 1, 0, 1, 1, 1000.0),
    ):
        F.mse_loss(model(data[0][0]), data[0][1]).backward()
        optimizer.step()
    torch.testing.assert_close(seen.history.series("0", "incoming")[1], model[0].weight.detach().abs().sum(1))
    assert seen.adjustments["0.weight"][1].sum() > 10 * seen.adjustments["0.weight"][0].sum()


def test_progress_counts_the_attacks_done() -> None:
    model, events = mlp(3, 5, 2), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    attack = Attack(optimizer, model[0].weight, 1, 1, 2, 3, 10.0, progress=lambda *event: events.append(event))
    for _ in range(12):
        optimizer.step()
    assert events == [("attack", 1, 2), ("attack", 2, 2)]
    assert attack.steps == [1, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": 5}, r"no unit 5"),
        ({"unit": -1}, r"no unit -1"),
        ({"target": "1"}, r"no group '1'.*the groups are 0"),
        ({"target": "0", "traced": False}, r"'0' is no parameter.*example="),
        ({"target": "0", "model": False}, r"needs model="),
        ({"start": -1}, r"start=-1"),
        ({"repeats": 0}, r"repeats=0"),
        ({"interval": 0}, r"interval=0"),
        ({"other": True}, r"optimizer does not hold the incoming weights of unit 0 of 0"),
    ],
)
def test_what_cannot_be_attacked_is_named(changes: dict[str, Any], words: str) -> None:
    model = mlp(3, 5, 2)
    of = mlp(3, 5, 2) if changes.get("other") else model
    optimizer = torch.optim.SGD(of.parameters(), lr=0.01)
    numbers = {
        key: changes.get(key, default) for key, default in (("unit", 0), ("start", 0), ("repeats", 1), ("interval", 1))
    }
    traced = dh.trace(model, torch.zeros(1, 3, dtype=torch.float64)) if changes.get("traced", True) else model
    given = traced if changes.get("model", True) else None
    with pytest.raises(dh.DataError, match=words):
        Attack(optimizer, changes.get("target", "0"), multiplier=10.0, model=given, **numbers)
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.01)
    assert not optimizer._optimizer_step_post_hooks


def test_an_attack_on_weights_that_were_cut_says_so() -> None:
    model, data = mlp(3, 8, 2), values(10, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Attack(optimizer, model[0].weight, 1, start=1, repeats=1, interval=1, multiplier=10.0):
        optimizer.step()
        dh.prune(model, data, loss="mse", units=0.5, inplace=True, optimizer=optimizer)
        with pytest.raises(dh.DataError, match="not what they were when the attack was made"):
            optimizer.step()
