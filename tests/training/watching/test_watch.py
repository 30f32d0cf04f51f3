"""A watch sees training and leaves no trace in it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadhead as dh
from deadhead.training.watching.watch import watch
from support.networks import Flat, classes, mlp, unit_gain, values
from support.snapshot import bits


class Noisy(nn.Module):
    """A convolution with batch norm, dropout and two linear layers: everything that training draws or updates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.hidden = nn.Linear(64, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(self.drop(torch.tanh(self.hidden(x))))


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}


def run(optimizer_name: str, steps: int, **options: Any) -> dict[str, Any]:
    """Everything that a training run leaves, to the bit; watched where there are options."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    model = Noisy()
    inputs, targets = torch.randn(40, 2, 6, 6), torch.randint(3, (40,))
    probe = DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)  # drawing an order draws numbers
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    seen = watch(model, optimizer, data=probe, loss="cross_entropy", **options) if options else None
    losses, modes = [], set()
    for _ in range(steps):

        def closure() -> Tensor:
            batch = torch.randint(40, (8,))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[batch]), targets[batch])
            loss.backward()
            losses.append(loss.item())
            return loss

        optimizer.step(closure)
        modes.add(tuple(module.training for module in model.modules()))
    state = [
        (key, bits(each) if isinstance(each, Tensor) else each)
        for entries in optimizer.state.values()
        for key, each in entries.items()
        if not isinstance(each, list)
    ]
    if seen is not None:
        seen.stop()
        assert len(seen.history) == steps // options["every"] + 1
        assert seen.history.series("hidden", "mrp").isfinite().any()
    return {
        "losses": losses,
        "weights": {name: bits(value) for name, value in model.state_dict().items()},
        "gradients": [bits(parameter.grad) for parameter in model.parameters()],
        "ids": [parameter.is_leaf and parameter.requires_grad for parameter in model.parameters()],
        "state": state,
        "modes": modes,
        "torch": bits(torch.get_rng_state()),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tobytes(),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize(("name", "steps"), [("sgd", 100), ("adamw", 100), ("lbfgs", 10)])
def test_a_watched_run_is_to_the_bit_the_run_without(name: str, steps: int, tmp_path: Any) -> None:
    plain = run(name, steps)
    seen = run(name, steps, every=5, mrp_every=2, folder=tmp_path)
    assert len(plain["losses"]) >= steps
    for part in plain:
        assert plain[part] == seen[part], part


def test_a_loss_that_draws_random_numbers_does_not_disturb_training() -> None:
    def drawing(outputs: Tensor, batch: Any) -> Tensor:
        random.random()
        np.random.rand()
        torch.rand(3)
        return F.cross_entropy(outputs, batch[1], reduction="none")

    model = unit_gain(Flat())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = (bits(torch.get_rng_state()), random.getstate(), np.random.get_state()[1].tobytes())
    with watch(model, optimizer, data=classes(6, 2, 6, 6, count=4), loss=drawing, every=1):
        optimizer.step()
    assert before == (bits(torch.get_rng_state()), random.getstate(), np.random.get_state()[1].tobytes())


def test_measuring_inside_autocast_is_in_full_precision() -> None:
    model = unit_gain(Flat()).float()
    data = [(inputs.float(), targets) for inputs, targets in classes(6, 2, 6, 6, count=4)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    seen = watch(model, optimizer, data=data, loss="cross_entropy", every=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.step()
    assert seen.history.loss[0] == seen.history.loss[1]


def test_weights_are_measured_as_they_are_after_the_step() -> None:
    model, data = mlp(2, 3, 2), values(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    norms = [model[0].weight.detach().abs().sum(1)]
    with watch(model, optimizer, data=data, loss="mse", every=2) as seen:
        for step in range(1, 5):
            optimizer.zero_grad()
            F.mse_loss(model(data[0][0]), data[0][1]).backward()
            optimizer.step()
            if step % 2 == 0:
                norms.append(model[0].weight.detach().abs().sum(1))
    assert seen.history.steps == [0, 2, 4]
    torch.testing.assert_close(seen.history.series("0", "incoming"), torch.stack(norms))


def test_nothing_is_recorded_after_the_block_and_what_was_recorded_is_kept() -> None:
    model, data = mlp(2, 3, 2), values(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="mse", every=1, adjustments=True) as seen:
        model(data[0][0]).sum().backward()
        optimizer.step()
    adjustments = {name: each.clone() for name, each in seen.adjustments.items()}
    optimizer.step()
    assert seen.steps == 1
    assert len(seen.history) == 2
    assert all(torch.equal(seen.adjustments[name], each) for name, each in adjustments.items())
    assert not optimizer._optimizer_step_post_hooks


def test_a_loss_that_is_not_finite_is_recorded_and_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    model, data = mlp(2, 3, 2), values(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="mse", every=1) as seen:
        with torch.no_grad():
            model[0].weight.fill_(torch.nan)
        optimizer.step()
    assert seen.history.loss[0] == seen.history.loss[0]
    assert seen.history.loss[1] != seen.history.loss[1]
    assert seen.dead == {}
    assert "not finite at step 1" in caplog.text


def test_a_cut_in_place_is_followed() -> None:
    model, data = mlp(2, 8, 6, 2), values(20, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(data[0][0]), data[0][1]).backward()
        optimizer.step()

    with watch(model, optimizer, data=data, loss="mse", every=2, adjustments=True) as seen:
        for _ in range(4):
            step()
        pruned = dh.prune(model, data, loss="mse", units=0.5, inplace=True, optimizer=optimizer)
        assert pruned.model is model
        step()
        before = model[0].weight.detach().clone()
        step()
        change = (model[0].weight.detach() - before).abs()
        torch.testing.assert_close(seen.adjustments["0.weight"], change)
    series = seen.history.series("0", "mrs")
    assert series.shape == (4, 8)
    assert series[3].isfinite().tolist() == [True] * 4 + [False] * 4
    assert seen.history.histograms("0")[0] == [6], "units are others than before the cut"
    assert seen.network.static.group("0").size == 4


def test_the_module_inside_a_compiled_one_is_watched() -> None:
    model, data = mlp(2, 3, 2), values(5, 2)
    wrapped = torch.compile(model, backend="eager")
    seen = watch(wrapped, torch.optim.SGD(wrapped.parameters(), lr=0.1), data=data, loss="mse")
    assert seen.network.module is model


def test_a_traced_network_is_watched_as_its_module_is() -> None:
    model, data = mlp(2, 3, 2), values(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    network = dh.trace(model, data[0][0])
    one, other = (watch(each, optimizer, data=data, loss="mse") for each in (network, model))
    assert torch.equal(one.history.series("0", "mrp"), other.history.series("0", "mrp"))
    assert one.network is network


def test_adjustments_are_what_they_were_without_data() -> None:
    model, data = mlp(2, 3, 2), values(5, 2)
    other = copy.deepcopy(model)
    for each, options in ((model, {}), (other, {"data": data, "loss": "mse", "every": 1, "adjustments": True})):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        with watch(each, optimizer, **options) as seen:
            before = each[0].weight.detach().clone()
            for _ in range(3):
                optimizer.zero_grad()
                each(data[0][0]).sum().backward()
                optimizer.step()
        moved = (each[0].weight.detach() - before).abs()
        assert seen.steps == 3
        assert (seen.adjustments["0.weight"] >= moved - 1e-12).all()
        each.recorded = seen.adjustments["0.weight"]
    assert torch.equal(model.recorded, other.recorded)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": True}, r"no loss=.*name it"),
        ({"data": True, "loss": "mse", "site": "middle"}, r"no site 'middle'.*producer, consumer"),
        ({"data": True, "loss": "mse", "groups": "conv*"}, r"'conv\*' matches no group"),
        ({"data": True, "loss": "mse", "units": {"0": [3]}}, r"unit 3 of 0.*0 to 2"),
        ({"data": True, "loss": "mse", "dead_below": 1.5}, r"dead_below=1.5 is a fraction"),
        ({"data": True, "loss": "mse", "every": 0}, r"every=0"),
        ({"data": True, "loss": "mse", "revive": "again"}, r"revive='again'.*\"anew\""),
        ({"loss": "mse"}, r"need data="),
        ({"folder": "runs"}, r"need data="),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, Any], words: str) -> None:
    model = mlp(2, 3, 2)
    if "data" in options:
        options = {**options, "data": values(5, 2)}
    with pytest.raises(dh.DataError, match=words):
        watch(model, torch.optim.SGD(model.parameters(), lr=0.1), **options)


def test_a_watch_without_data_says_what_it_lacks() -> None:
    model = mlp(2, 3, 2)
    seen = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for ask in (lambda: seen.dead, lambda: seen.history, lambda: seen.figure(), lambda: seen.measure()):
        with pytest.raises(dh.DataError, match=r"no data.*data="):
            ask()


def test_complex_parameters_are_adjusted_by_real_amounts() -> None:
    class Turn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    model = Turn()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, optimizer) as seen:
        model.weight.grad = torch.tensor([3 + 4j, 0])
        optimizer.step()
    assert seen.adjustments["weight"].tolist() == [5.0, 0.0]
