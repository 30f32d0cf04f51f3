"""Data in all its forms: iterators, mappings, tuples, losses of torch and of one's own, several lengths."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from support.networks import Residual, classes, mlp, unit_gain, values
from support.references import entropy
from support.snapshot import bits, same

DATA = classes(24, 2, 5, 5)


def residual() -> nn.Module:
    return unit_gain(Residual())


def test_one_shot_iterators_lists_and_loaders_give_the_same() -> None:
    model = residual()
    inputs, targets = DATA[0]
    how: dict[str, Any] = {"loss": "cross_entropy", "units": 0.5, "compensate": "mean", "curve": 0}
    expected = dh.prune(model, DATA, test=DATA, **how)

    def generator() -> Iterator[Any]:
        yield from DATA

    for data in (generator(), iter(DATA), DataLoader(TensorDataset(inputs, targets), batch_size=24), [list(DATA[0])]):
        found = dh.prune(model, data, test=generator(), **how)
        assert found.plan.order == expected.plan.order
        assert same(found.model, expected.model)


class Named(nn.Module):
    """Keyword inputs, an output that is a mapping, and a loss of its own where it gets labels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, shift: Tensor | None = None, labels: Tensor | None = None) -> dict[str, Any]:
        logits = self.last(torch.tanh(self.first(x if shift is None else x + shift)))
        return {"loss": None if labels is None else F.cross_entropy(logits, labels), "logits": logits}


def named(rows: int = 24) -> list[dict[str, Tensor]]:
    (inputs, targets), *_ = classes(rows, 3)
    return [{"x": inputs, "shift": inputs.flip(1) / 10, "labels": targets}]


def test_batches_may_be_mappings_and_outputs_too() -> None:
    model = unit_gain(Named())
    pruned = dh.prune(model, named(), loss="cross_entropy", units=0.5)
    assert pruned.model.first.out_features == 4
    assert pruned.report.before.accuracy is not None
    batch = OrderedDict(named()[0])
    assert dh.prune(model, [batch], loss="cross_entropy", units=0.5).plan.order == pruned.plan.order


def test_a_model_may_return_its_own_loss() -> None:
    model, test = unit_gain(Named()), named(10)
    pruned = dh.prune(model, named(), loss="model", criterion="magnitude", units=0.5, test=test)
    with torch.no_grad():
        before, after = (float(each(**test[0])["loss"]) for each in (model, pruned.model))
    assert pruned.report.before.loss == pytest.approx(before, rel=1e-10)
    assert pruned.report.after.loss == pytest.approx(after, rel=1e-10)
    with pytest.raises(dh.LossError, match=r'loss for each sample.*loss="model".*magnitude'):
        dh.prune(model, named(), loss="model", criterion="mrs", units=0.5)


def test_several_inputs_go_into_a_tuple_of_their_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(3, 6), nn.Linear(2, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.last(torch.tanh(self.a(x) + self.b(y)))

    data = [((torch.randn(20, 3).double(), torch.randn(20, 2).double()), torch.randint(3, (20,)))]
    assert dh.prune(unit_gain(Two()), data, loss="cross_entropy", units=0.5).model.a.out_features == 3


@dataclass
class Output:
    value: Tensor
    extra: str = "note"


def test_a_loss_of_ones_own_gets_the_models_own_container_and_the_raw_batch() -> None:
    class Contained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Output:
            return Output(self.last(torch.tanh(self.first(x))))

    seen = set()

    def loss(outputs: Any, batch: Any) -> Tensor:
        seen.add((type(outputs), type(batch)))
        inputs, (a, b) = batch
        return (outputs.value - a).abs().sum(1) + b * inputs[:, 0] ** 2

    data = [(torch.randn(24, 3).double(), (torch.randn(24, 2).double(), torch.rand(24).double()))]
    pruned = dh.prune(unit_gain(Contained()), data, loss=loss, units=0.5)
    assert pruned.model.first.out_features == 4
    assert {kind for kind, _ in seen} == {Output}
    assert {kind for _, kind in seen} == {tuple}
    assert pruned.report.loss_name == "loss"


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (nn.MSELoss(), "mse"),
        (nn.MSELoss(reduction="none"), "mse"),
        (nn.SmoothL1Loss(), None),
        (nn.L1Loss(reduction="mean"), None),
        (nn.HuberLoss(delta=0.5), None),
    ],
)
def test_losses_of_torch_are_made_per_sample(loss: nn.Module, name: str | None) -> None:
    model, data = mlp(3, 8, 2), values(24, 3)
    pruned = dh.prune(model, data, loss=loss, units=0.5)
    held = calibrate(read(data)).held_out[0]
    with torch.no_grad():
        each = getattr(F, {"MSELoss": "mse_loss", "SmoothL1Loss": "smooth_l1_loss", "L1Loss": "l1_loss"}.get(
            type(loss).__name__, "huber_loss"))  # fmt: skip
        options = {"delta": 0.5} if isinstance(loss, nn.HuberLoss) else {}
        expected = float(each(model(held.inputs), held.targets, **options))
    assert pruned.report.before.loss == pytest.approx(expected, rel=1e-10)
    if name is not None:
        assert dh.prune(model, data, loss=name, units=0.5).plan.order == pruned.plan.order


def test_a_sequence_first_model_names_its_batch_axis() -> None:
    class Time(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)).mean(0))

    model = unit_gain(Time())
    inputs, targets = classes(20, 4, 3)[0]
    network = dh.trace(model, inputs.transpose(0, 1), batch_axis=1)
    pruned = dh.prune(network, [(inputs.transpose(0, 1), targets)], loss="cross_entropy", criterion="oracle", units=4)
    assert pruned.model.first.out_features == 4
    assert pruned.report.calibration_rows == 20


def test_batches_of_several_lengths_are_traced_one_by_one() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)).mean(1))

    data = [classes(8, length, 3, seed=length)[0] for length in (2, 5, 3)]
    pruned = dh.prune(unit_gain(Mean()), data, loss="cross_entropy", units=0.5)
    assert pruned.model.first.out_features == 4


class Writes(nn.Module):
    """Its forward writes to the tensor that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(0.5).clamp_(-1, 1)
        return self.last(torch.tanh(self.first(x)))


def test_a_forward_that_writes_to_its_input_is_measured_on_data_that_it_did_not_write_to() -> None:
    model = unit_gain(Writes())
    data = [(torch.randn(24, 3).double(), torch.randint(3, (24,)))]
    test = [(torch.randn(10, 3).double(), torch.randint(3, (10,)))]
    kept = [(inputs.clone(), targets) for inputs, targets in test]
    pruned = dh.prune(model, data, loss="cross_entropy", units=0.5, test=test)
    assert bits(test[0][0]) == bits(kept[0][0])
    before = entropy(model, [(inputs.clone(), targets) for inputs, targets in kept])
    after = entropy(pruned.model, [(inputs.clone(), targets) for inputs, targets in kept])
    assert pruned.report.before.loss == pytest.approx(before, rel=1e-10)
    assert pruned.report.after.loss == pytest.approx(after, rel=1e-10)
