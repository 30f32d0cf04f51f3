"""Gradual pruning: rounds at their time, in a training that is otherwise what it would have been."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from deadhead.errors import BudgetError, DataError
from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.schedule import Schedule
from support.networks import unit_gain
from support.quick import each_of
from support.snapshot import bits


class Drawing(nn.Module):
    """Convolution, batch norm, dropout: (n, 1, 4, 4) to (n, 3)."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(dropout)
        self.fc1 = nn.Linear(24, 10)
        self.fc2 = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        return self.fc2(torch.tanh(self.fc1(self.drop(x))))


def loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(24, 1, 4, 4, dtype=torch.float64, generator=generator)
    return DataLoader(TensorDataset(inputs, torch.randint(3, (24,), generator=generator)), batch_size=8, shuffle=True)


def run(
    epochs: int,
    schedule: Schedule | None,
    dropout: float = 0.2,
    at: Callable[[int, nn.Module], None] = lambda step, model: None,
    **options: Any,
) -> tuple[nn.Module, Gradual | None, list[float]]:
    """The caller's own loop, with a sum of each batch that was seen."""
    model = unit_gain(Drawing(dropout)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.001)
    data = loader()
    gradual = None
    torch.manual_seed(11)
    if schedule is not None:
        gradual = Gradual(model, optimizer, data, loss="cross_entropy", schedule=schedule, **options)
    seen, step = [], 0
    for _ in range(epochs):
        for inputs, targets in data:
            seen.append(float(inputs.sum()))
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            step += 1
            if gradual:
                gradual.step()
            at(step, model)
        if gradual:
            gradual.epoch()
    return model, gradual, seen


def states(epochs: int, schedule: Schedule | None, **options: Any) -> tuple[list[Any], list[float], Tensor]:
    """The bits of the state after each step, the batches, and the random state in the end."""
    found: list[Any] = []
    _, _, seen = run(
        epochs,
        schedule,
        at=lambda step, model: found.append([bits(tensor) for tensor in model.state_dict().values()]),
        **options,
    )
    return found, seen, torch.get_rng_state()


@pytest.mark.parametrize("cut", ["end", "as it goes"])
def test_a_run_is_to_the_bit_the_plain_one_until_the_first_round_and_sees_the_same_batches(cut: str) -> None:
    plain, batches, end = states(3, None)
    # of units behind the dropout, which draws as many numbers in the cut network
    pruned, seen, after = states(3, Schedule({2: 0.5}), cut=cut, only=["fc1"])
    assert plain[:6] == pruned[:6]
    assert plain[6] != pruned[6]
    assert batches == seen
    assert torch.equal(end, after)


def test_rounds_come_after_their_epochs_and_say_what_they_did() -> None:
    _, gradual, _ = run(4, Schedule({1: 0.8, 3: 0.5}))
    assert gradual is not None
    assert [(each.epoch, each.step, each.remaining, each.closed, each.units) for each in gradual.rounds] == [
        (1, 3, 0.8, {"conv": 1, "fc1": 2}, 13),
        (3, 9, 0.5, {"conv": 2, "fc1": 3}, 8),
    ]
    assert (gradual.epochs, gradual.steps) == (4, 12)
    pruned = gradual.finish()
    assert (pruned.model.conv.out_channels, pruned.model.fc1.out_features) == (3, 5)
    assert pruned.model is not gradual.masks.module
    assert pruned.model.training


def test_rounds_come_after_their_steps() -> None:
    closed = []
    _, gradual, _ = run(
        2,
        Schedule({2: 0.9, 4: 0.5}, every="step"),
        at=lambda step, model: closed.append(int((model.fc1.weight.abs().sum(1) == 0).sum())),
    )
    assert gradual is not None
    assert closed == [0, 1, 1, 5, 5, 5]
    assert [(each.epoch, each.step) for each in gradual.rounds] == [(0, 2), (1, 4)]


def test_a_function_may_ask_for_a_round_at_any_time() -> None:
    _, gradual, _ = run(3, Schedule(lambda epoch: 0.9 if epoch == 2 else None))
    assert gradual is not None
    assert [each.epoch for each in gradual.rounds] == [2]


@pytest.mark.parametrize("compensate", each_of(("mean", "zero"), ("mean",)))
def test_cut_as_it_goes_is_cut_at_the_end(compensate: str) -> None:
    """Both runs choose the same units, and the networks are the same up to rounding, report and all."""
    schedule = Schedule({1: 0.8, 2: {"conv": 0.6, "fc1": 5}, 3: {"conv": 2, "fc1": 0.4}})
    found = []
    for cut in ("end", "as it goes"):
        model, gradual, _ = run(5, schedule, dropout=0.0, cut=cut, compensate=compensate)
        assert gradual is not None
        pruned = gradual.finish(test=list(loader()))
        assert (pruned.model is model) == (cut == "as it goes")
        found.append((pruned, gradual))
    (end, one), (goes, two) = found
    assert [each.closed for each in one.rounds] == [each.closed for each in two.rounds]
    assert {name: units.tolist() for name, units in end.plan.removed.items()} == {
        name: sorted(units.tolist()) for name, units in goes.plan.removed.items()
    }
    for name, tensor in end.model.state_dict().items():
        torch.testing.assert_close(goes.model.state_dict()[name], tensor, rtol=1e-9, atol=1e-9)
    for ours, theirs in ((end.report.before, goes.report.before), (end.report.after, goes.report.after)):
        assert (ours.parameters, ours.macs) == (theirs.parameters, theirs.macs)
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-9)
    assert end.report.before.parameters == 6 * 10 + 12 + 10 * 25 + 33


def test_weights_are_closed_by_fraction_of_the_intact_network() -> None:
    model, gradual, _ = run(3, Schedule({1: 0.5, 2: 0.25}, budget="weights"))
    assert gradual is not None
    for tensor in (model.conv.weight, model.fc1.weight, model.fc2.weight):
        assert int((tensor != 0).sum()) == round(0.25 * tensor.numel())
    assert model.fc1.bias.all()
    assert [each.weights for each in gradual.rounds] == [27 + 120 + 15, 54 - 14 + 180 + 30 - 8]
    assert gradual.rounds[0].closed == {}
    assert gradual.finish().model.fc1.weight.shape == (10, 24)


def test_the_schedule_of_a_small_network_for_digits_leaves_4019_of_20522_parameters() -> None:
    """Evci (2018), table 4.2: floor(f K) units of each layer are removed, which counts say."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    assert sum(map(torch.numel, model.parameters())) == 20_522
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = [(torch.randn(8, 1, 28, 28), torch.randint(10, (8,)))]
    sizes = {"0": 8, "3": 16, "7": 64}
    removed = {2: 0.1, 3: 0.2, 4: 0.4, 5: 0.6}
    points = {epoch: {name: k - int(f * k) for name, k in sizes.items()} for epoch, f in removed.items()}
    assert points[5] == {"0": 4, "3": 7, "7": 26}
    gradual = Gradual(model, optimizer, data, loss="cross_entropy", schedule=Schedule(points), cut="as it goes")
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(data[0][0]), data[0][1]).backward()
        optimizer.step()
        gradual.epoch()
    assert sum(map(torch.numel, model.parameters())) == 4_019
    assert [sum(each.closed.values()) for each in gradual.rounds] == [7, 9, 18, 17]
    report = gradual.finish().report
    assert (report.before.parameters, report.after.parameters) == (20_522, 4_019)


def test_what_cannot_be_read_twice_is_refused() -> None:
    model = unit_gain(Drawing())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DataError, match="give a list or a loader"):
        Gradual(model, optimizer, iter(loader()), loss="cross_entropy", schedule={1: 0.5})
    with pytest.raises(DataError, match="no cut='later'"):
        Gradual(model, optimizer, loader(), loss="cross_entropy", schedule={1: 0.5}, cut="later")
    with pytest.raises(BudgetError, match="out of range"):
        Gradual(model, optimizer, loader(), loss="cross_entropy", schedule={1: 2.0})


@pytest.mark.parametrize("cut", each_of(("end", "as it goes"), ("as it goes",)))
def test_a_checkpoint_goes_on_to_the_same_bits(cut: str) -> None:
    """Saved between two rounds, and loaded into objects made anew."""
    data = list(loader())

    def make() -> tuple[nn.Module, torch.optim.Optimizer, Gradual]:
        model = unit_gain(Drawing(0.0)).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        schedule = Schedule({1: 0.8, 3: 0.5})
        return model, optimizer, Gradual(model, optimizer, data, loss="cross_entropy", schedule=schedule, cut=cut)

    def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, gradual: Gradual) -> None:
        for inputs, targets in data:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            gradual.step()
        gradual.epoch()

    first = make()
    for _ in range(2):
        epoch(*first)
    file = io.BytesIO()
    torch.save([each.state_dict() for each in first], file)
    file.seek(0)
    saved, second = torch.load(file, weights_only=False), make()
    for index in (2, 0, 1):  # the masks first
        second[index].load_state_dict(saved[index])
    for _ in range(2):
        epoch(*first)
        epoch(*second)
    assert [each.closed for each in first[2].rounds] == [each.closed for each in second[2].rounds]
    one, two = first[2].finish().model.state_dict(), second[2].finish().model.state_dict()
    assert {name: bits(tensor) for name, tensor in one.items()} == {name: bits(tensor) for name, tensor in two.items()}
