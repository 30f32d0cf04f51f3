"""Measuring inside `undisturbed` leaves training as it was, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.training.randomness import Randomness
from deadhead.training.undisturbed import Held, undisturbed
from support.snapshot import bits, facts_of

Make = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), 1e-2),
    "lbfgs": lambda m: torch.optim.LBFGS(m.parameters(), 0.1, max_iter=2, history_size=4),
}
INPUTS = torch.randn(48, 5, generator=torch.Generator().manual_seed(1))
TARGETS = (INPUTS[:, 0] > 0).long()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step on samples, noise and an order that all three random generators draw."""
    rows = torch.randperm(len(INPUTS))[:16]
    noise = torch.from_numpy(np.random.randn(16, 5)).float() * random.random() * 0.1

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(INPUTS[rows] + noise), TARGETS[rows])
        loss.backward()
        return loss

    return optimizer.step(closure)  # type: ignore[arg-type, return-value]


def measure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """All that a curious person does: score, zero half of the units, measure, train a step."""
    dh.score(model, [(INPUTS, TARGETS)], loss="cross_entropy", criterion="mrs")
    with torch.no_grad():
        model[0].weight[:4] = 0  # type: ignore[index]
        model[4].weight.data = model[4].weight * 0.5  # type: ignore[index, union-attr, operator]
    model.eval()
    F.cross_entropy(model(INPUTS), TARGETS).backward()
    model.train()
    model[6].requires_grad_(False)  # type: ignore[index, operator]
    optimizer.param_groups[0]["lr"] = 0.3
    step(model, optimizer)


def train(make: Make, steps: int, between: Callable[[nn.Module, torch.optim.Optimizer], None] | None = None) -> list:
    model = network()
    optimizer = make(model)
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    losses = []
    for index in range(steps):
        losses.append(bits(step(model, optimizer)))
        if between is not None and index % 10 == 9:
            between(model, optimizer)
    return [losses, [bits(each) for each in model.state_dict().values()], bits(torch.rand(1)), np.random.rand()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_that_is_measured_equals_training_that_is_not(name: str) -> None:
    def looked_at(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        with undisturbed(model, optimizer):
            measure(model, optimizer)

    plain = train(OPTIMIZERS[name], 100)
    assert train(OPTIMIZERS[name], 100, looked_at) == plain
    assert train(OPTIMIZERS[name], 20, measure) != train(OPTIMIZERS[name], 20), "the measuring changes nothing"


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_everything_is_restored_also_after_an_error(name: str, steps: int) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model)
    for _ in range(steps):
        step(model, optimizer)
    model[1].eval()  # type: ignore[index]
    before, state = facts_of(model), _plain(optimizer.state_dict())
    after = Randomness.now()

    def fail() -> None:
        with undisturbed(model, optimizer):
            measure(model, optimizer)
            model.register_forward_hook(lambda *_: None)
            model.add_module("more", nn.Linear(2, 2))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert facts_of(model) == before
    assert _plain(optimizer.state_dict()) == state
    assert [p.grad is None for p in model.parameters()] == [steps == 0] * 8
    now = Randomness.now()
    assert now.python == after.python
    assert torch.equal(now.cpu, after.cpu)
    assert all(np.array_equal(a, b) for a, b in zip(now.numpy, after.numpy, strict=True))


def _plain(value: object) -> object:
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def test_a_parameter_stays_the_same_object_in_the_same_memory() -> None:
    model = network()
    held = [(parameter, parameter.data_ptr()) for parameter in model.parameters()]
    with undisturbed(model):
        for module in (model[0], model[4]):  # type: ignore[index]
            module.weight = nn.Parameter(torch.zeros(1, 1))
        model[6].bias.data = torch.ones(7)  # type: ignore[index, union-attr]
    assert all(p is q and p.data_ptr() == place for p, (q, place) in zip(model.parameters(), held, strict=True))


def test_schedulers_scalers_and_generators_are_restored_too() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    own, other = torch.Generator().manual_seed(5), np.random.default_rng(5)
    drawn = torch.rand(1, generator=torch.Generator().manual_seed(5)), np.random.default_rng(5).random()
    with undisturbed(model, schedule, own, other):
        step(model, optimizer)
        schedule.step()
        torch.rand(9, generator=own), other.random(9)
        assert optimizer.param_groups[0]["lr"] == 0.025
    assert (schedule.last_epoch, optimizer.param_groups[0]["lr"], len(optimizer.state)) == (0, 0.05, 0)
    assert torch.equal(torch.rand(1, generator=own), drawn[0])
    assert other.random() == drawn[1]


def test_the_random_state_of_every_accelerator_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.tensor([1]), torch.tensor([2])]

    class Accelerator:
        device_count = staticmethod(lambda: 2)
        get_rng_state = staticmethod(lambda index: states[index])
        set_rng_state = staticmethod(lambda state, index: states.__setitem__(index, state))

    monkeypatch.setattr("deadhead.training.randomness._accelerators", lambda: [("cuda", Accelerator)])
    with undisturbed(network()):
        states[:] = [torch.tensor([3]), torch.tensor([4])]
    assert [int(state) for state in states] == [1, 2]


def test_what_holds_nothing_is_refused() -> None:
    with pytest.raises(dh.DataError, match="A int holds nothing"):
        Held(network(), 3)
    with pytest.raises(dh.DataError, match="this is a list"):
        Held([network()])  # type: ignore[arg-type]


def test_masks_that_are_closed_and_opened_inside_hold_what_they_held_before() -> None:
    def run(disturbed: bool) -> list[torch.Tensor]:
        torch.manual_seed(1)
        layers = [nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)]
        model = nn.Sequential(*layers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        inputs = torch.randn(8, 3)
        masks = dh.Masks(model, optimizer, example=inputs)
        masks.close({"0": [1]})
        for step in range(20):
            if disturbed and step % 5 == 2:
                with undisturbed(model, optimizer, masks):
                    masks.open()
                    masks.close({"0": [0, 2], "3": [1]}, reference="mean")
                    optimizer.step()
            if step == 12:
                masks.open()
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            if step < 12:
                assert masks.closed == {"0": [1]}
                assert not model[0].weight[1].any()
        return [tensor.clone() for tensor in model.state_dict().values()]

    for found, expected in zip(run(True), run(False), strict=True):
        assert torch.equal(found, expected)
