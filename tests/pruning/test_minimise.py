"""Units that zeros among the weights have made superfluous: what goes, what stays, and that nothing changes."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.pruning.minimise import densities
from support.networks import Flat, Residual, classes, mlp, unit_gain


def sparse(model: nn.Module, share: float, seed: int) -> nn.Module:
    """The model with a share of the weights of all its matrices and kernels set to zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter[torch.rand(parameter.shape, generator=generator) < share] = 0
    return model


def superfluous(model: nn.Sequential) -> list[set[int]]:
    """The hidden units of a multilayer perceptron that depend on no input or on which no output depends, by loops."""
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    fed = [set(range(weights[0].shape[1]))]
    for weight in weights:
        fed.append({j for j in range(weight.shape[0]) if any(weight[j, i] != 0 for i in fed[-1])})
    read = [set(range(weights[-1].shape[0]))]
    for weight in reversed(weights):
        read.append({i for i in range(weight.shape[1]) if any(weight[j, i] != 0 for j in read[-1])})
    read.reverse()
    return [set(range(len(weight))) - (f & r) for weight, f, r in zip(weights[:-1], fed[1:-1], read[1:-1], strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_of_a_perceptron_goes_what_a_plain_loop_cannot_reach_and_no_other_unit(seed: int) -> None:
    model = sparse(mlp(5, 12, 10, 8, 3, activation=nn.Sigmoid, seed=seed), 0.88, seed)
    assert isinstance(model, nn.Sequential)
    x = torch.randn(16, 5, dtype=torch.float64)
    pruned = dh.minimise(model, [x])
    expected = superfluous(model)
    for place, (units, size) in enumerate(zip(expected, (12, 10, 8), strict=True)):
        removed = set(pruned.plan.removed.get(str(2 * place), torch.zeros(0)).tolist())
        if len(units) == size:  # one has to be kept
            assert len(removed) == size - 1
        else:
            assert removed == units
    torch.testing.assert_close(pruned.model(x), model(x), rtol=1e-12, atol=1e-13)
    assert pruned.report.difference < 1e-12
    with pytest.raises(dh.DeadheadError, match=r"has no weights that are not zero on one side|can be cut"):
        dh.minimise(pruned.model, [x])  # a fixed point


def test_removing_one_unit_leaves_another_without_weights_and_so_on() -> None:
    model = mlp(2, 3, 3, 3, 1)
    with torch.no_grad():
        for layer in (model[2], model[4]):
            layer.weight[0] = torch.tensor([1.0, 0.0, 0.0])
            layer.weight[1:, 0] = 0
        model[0].weight[0] = 0  # so that a chain of three is constant, front to back
        model[6].weight[0, 2] = 0
        model[4].weight[:2, 2] = 0
        model[2].weight[:2, 2] = 0  # and another one is not read, back to front
    x = torch.randn(9, 2, dtype=torch.float64)
    pruned = dh.minimise(model, [x])
    assert {name: units.tolist() for name, units in pruned.plan.removed.items()} == {
        "0": [0, 2],
        "2": [0, 2],
        "4": [0, 2],
    }
    torch.testing.assert_close(pruned.model(x), model(x), rtol=1e-12, atol=1e-13)


class Padded(nn.Module):
    """Two convolutions with zero padding: (n, 1, 5, 5) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x))).flatten(2).square().mean(2)


def test_a_constant_under_zero_padding_is_kept_unless_it_is_zero() -> None:
    model = unit_gain(Padded())
    with torch.no_grad():
        model.first.weight[:2] = 0
        model.first.bias[0] = 0.7  # at the borders the second convolution reads zeros in its place
        model.first.bias[1] = -0.7
    x = torch.randn(6, 1, 5, 5, dtype=torch.float64)
    pruned = dh.minimise(model, [x])
    assert pruned.plan.removed["first"].tolist() == [1]
    torch.testing.assert_close(pruned.model(x), model(x), rtol=1e-12, atol=1e-13)


class Echo(nn.Module):
    """A recurrent layer whose last state is read: (n, steps, 2) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(2, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Flat(), (2, 6, 6)), (Residual(), (2, 5, 5)), (Echo(), (2, 2))],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_nothing_changes_with_convolutions_batch_norm_residual_sums_and_recurrence(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    removed = 0
    for seed, share in itertools.product(range(2), (0.7, 0.95)):
        sparse(unit_gain(model, seed), share, seed)
        x = torch.randn(8, *shape, dtype=torch.float64)
        try:
            pruned = dh.minimise(model, [x])
        except dh.BudgetError:
            continue
        removed += pruned.plan.count
        y = torch.randn(5, *shape, dtype=torch.float64)  # inputs that no decision saw
        torch.testing.assert_close(pruned.model(y), model(y), rtol=1e-9, atol=1e-11)
    assert removed > 0


def test_densities_are_those_of_a_plain_count() -> None:
    model = sparse(unit_gain(Flat()), 0.5, 3)
    found = densities(dh.trace(model, torch.zeros(1, 2, 6, 6, dtype=torch.float64)))
    for unit in range(5):
        assert found["conv2"].incoming[unit] == pytest.approx(float((model.conv2.weight[unit] != 0).double().mean()))
        outgoing = model.fc1.weight[:, 4 * unit : 4 * unit + 4]
        assert found["conv2"].outgoing[unit] == pytest.approx(float((outgoing != 0).double().mean()))


def test_a_fraction_above_zero_takes_units_of_few_weights_once_and_the_report_says_what_it_costs() -> None:
    model = sparse(mlp(5, 12, 10, 3), 0.6, 1)
    data = classes(40, 5)
    network = dh.trace(model, data[0][0])
    found = densities(network)
    pruned = dh.minimise(network, data, loss="cross_entropy", at_most=0.3)
    expected = {
        name: [unit for unit in range(len(each.incoming)) if min(each.incoming[unit], each.outgoing[unit]) <= 0.3]
        for name, each in found.items()
    }
    assert {name: units.tolist() for name, units in pruned.plan.removed.items()} == {
        n: u for n, u in expected.items() if u
    }
    assert pruned.report.before.loss != pruned.report.after.loss
    incoming = dh.minimise(network, data, loss="cross_entropy", at_most=0.3, side="incoming").plan.removed
    assert all(found[name].incoming[units].max() <= 0.3 for name, units in incoming.items())


def test_bad_input_gets_a_sentence_and_the_model_is_left_alone() -> None:
    model, x = mlp(5, 6, 3), torch.randn(4, 5, dtype=torch.float64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(dh.BudgetError, match="no side 'left' of a unit"):
        dh.minimise(model, [x], side="left")
    with pytest.raises(dh.BudgetError, match=r"at_most=1.0 is out of range"):
        dh.minimise(model, [x], at_most=1.0)
    with pytest.raises(dh.BudgetError, match="raise at_most"):
        dh.minimise(model, [x])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_in_place_with_its_optimizer_training_goes_on() -> None:
    model = sparse(mlp(5, 12, 10, 3), 0.8, 2)
    optimizer = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(torch.randn(8, 5).double()), torch.randint(3, (8,))).backward()
    pruned = dh.minimise(model, classes(20, 5), loss="cross_entropy", inplace=True, optimizer=optimizer)
    assert pruned.model is model
    assert pruned.optimizer is optimizer
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(8, 5).double()), torch.randint(3, (8,))).backward()
    optimizer.step()
