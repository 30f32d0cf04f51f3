"""The state after a plan and a compensation: plain modules with zeroed slices and added constants as references."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.cut.cut import cut
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.state import PrunedState, Removed
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import plan_of
from support.networks import classes, unit_gain

WIDTH, INNER = 6, 5
REMOVED = {"stem": torch.tensor([1, 4]), "first.down": torch.tensor([0, 3])}


class Block(nn.Module):
    """A residual block without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(WIDTH, INNER, 3, padding=1, bias=False)
        self.up = nn.Conv2d(INNER, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(torch.tanh(self.down(x)))


class Tied(nn.Module):
    """A stem, two residual blocks whose first convolutions share their weight, and a head: (n, 2, 5, 5) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, WIDTH, 3, padding=1)
        self.first, self.second = Block(), Block()
        self.second.down.weight = self.first.down.weight
        self.head = nn.Linear(WIDTH, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(F.relu(self.stem(x)))).mean((2, 3)))


@dataclass
class Changed:
    """New weights, and constants by the weight whose consumers they are added to."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CHANGED = Changed(
    {"first.down.weight": 0.3 * drawn(INNER, WIDTH, 3, 3, seed=1), "head.weight": drawn(3, WIDTH, seed=2)},
    {"first.down.weight": drawn(INNER, seed=3), "head.weight": drawn(3, seed=4)},
)


def tied() -> tuple[Tied, dh.Network, Tensor]:
    model = unit_gain(Tied())
    assert isinstance(model, Tied)
    ((inputs, _),) = classes(4, 2, 5, 5)
    return model, dh.trace(model, inputs), inputs


def without_units(model: Tied, stem: Tensor, inner: Tensor) -> Tied:
    """The module with every slice of these units at zero, written out."""
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.stem.weight[stem], zeroed.stem.bias[stem] = 0, 0
        zeroed.first.down.weight[inner] = 0
        zeroed.first.down.weight[:, stem] = 0
        for block in (zeroed.first, zeroed.second):
            block.up.weight[stem], block.up.bias[stem] = 0, 0
            block.up.weight[:, inner] = 0
        zeroed.head.weight[:, stem] = 0
    return zeroed


def compensated(model: Tied, changed: Changed) -> Tied:
    """The module with the new weights, and the constants as biases."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        result.first.down.weight.copy_(changed.tensors["first.down.weight"])
        result.head.weight.copy_(changed.tensors["head.weight"])
    for block in (result.first, result.second):
        block.down.bias = nn.Parameter(changed.constants["first.down.weight"])
    result.head.bias = nn.Parameter(changed.constants["head.weight"])
    return result


def same(found: object, expected: Tensor) -> None:
    assert isinstance(found, Tensor)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)


def test_the_tied_network_has_the_groups_that_are_removed_from() -> None:
    _, network, _ = tied()
    assert {group.name: group.size for group in network.groups} == {"stem": WIDTH, "first.down": INNER}


def test_outputs_are_those_of_the_module_with_zeroed_slices_new_weights_and_constants() -> None:
    model, network, inputs = tied()
    batch = as_batch((inputs, None))
    same(PrunedState.of(network).outputs(batch), model(inputs))
    pruned = without_units(model, *REMOVED.values())
    same(PrunedState.of(network, Removed(REMOVED)).outputs(batch), pruned(inputs))
    changed = compensated(model, CHANGED)
    same(PrunedState.of(network, compensation=CHANGED).outputs(batch), changed(inputs))
    both = without_units(changed, *REMOVED.values())
    same(PrunedState.of(network, Removed(REMOVED), CHANGED).outputs(batch), both(inputs))
    for one, other in [(model, pruned), (pruned, both), (changed, both)]:
        assert (one(inputs) - other(inputs)).abs().max() > 0.05 * one(inputs).abs().max()


def test_outputs_are_those_of_the_cut_module() -> None:
    _, network, inputs = tied()
    plan = plan_of([(name, unit) for name, units in REMOVED.items() for unit in units.tolist()])
    biases = {"head.bias": CHANGED.constants["head.weight"]}
    changed = Compensation(dict(CHANGED.tensors), biases, {"head.weight": CHANGED.constants["head.weight"]})
    small = cut(network, plan, changed)
    assert isinstance(small, Tied)
    assert small.stem.out_channels == WIDTH - 2
    assert small.second.down.weight.shape == (INNER - 2, WIDTH - 2, 3, 3)
    same(PrunedState.of(network, plan, changed).outputs(as_batch((inputs, None))), small(inputs))


def test_closing_keeps_tensors_and_constants_and_removes_other_units() -> None:
    model, network, inputs = tied()
    state = PrunedState.of(network, Removed(REMOVED), CHANGED)
    other = state.closing({"first.down": torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])})
    expected = without_units(compensated(model, CHANGED), torch.tensor([], dtype=torch.long), torch.tensor([1, 4]))
    same(other.outputs(as_batch((inputs, None))), expected(inputs))
    assert set(state.closed) == set(REMOVED)


def test_remaining_are_the_tensors_of_the_module_with_zeroed_slices() -> None:
    model, network, _ = tied()
    found = PrunedState.of(network, Removed(REMOVED), CHANGED).remaining()
    expected = without_units(compensated(model, CHANGED), *REMOVED.values()).state_dict()
    for name, tensor in network.frozen_state().items():
        assert torch.equal(found[name], expected[name]), name
        assert torch.equal(tensor, model.state_dict()[name]), f"{name} of the intact network has changed"


def test_gates_stand_behind_the_removed_units() -> None:
    model, network, inputs = tied()
    batch = as_batch((inputs, torch.zeros(len(inputs), 3)))
    gates = PrunedState.of(network, Removed(REMOVED), CHANGED).gates(as_loss("squared_error"))
    alpha = {"first.down": torch.ones(INNER).index_fill(0, torch.tensor([2]), 0.0)}
    expected = without_units(compensated(model, CHANGED), REMOVED["stem"], torch.tensor([0, 2, 3]))(inputs)
    same(gates.loss(alpha, batch), 0.5 * expected.square().sum(1))


class Normed(nn.Module):
    """A linear layer, LayerNorm over its units, and a linear layer that reads them."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(3, width), nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(x)))


@pytest.mark.parametrize("renormalise", [True, False])
def test_normalisations_go_over_the_remaining_units_or_over_zeros_too(renormalise: bool) -> None:
    model = unit_gain(Normed())
    assert isinstance(model, Normed)
    ((inputs, _),) = classes(4, 3)
    network = dh.trace(model, inputs, width=True)
    (group,) = network.groups
    removed, remaining = torch.tensor([1, 4]), torch.tensor([0, 2, 3, 5])
    if renormalise:
        expected = unit_gain(Normed(len(remaining)))
        rows = {name: tensor[remaining] for name, tensor in model.state_dict().items() if not name.startswith("head")}
        head = {"head.weight": model.head.weight[:, remaining], "head.bias": model.head.bias}
        expected.load_state_dict({**rows, **head})
    else:
        expected = copy.deepcopy(model)
        expected.head.weight.data[:, removed] = 0
    found = PrunedState.of(network, Removed({group.name: removed})).outputs(
        as_batch((inputs, None)), renormalise=renormalise
    )
    same(found, expected(inputs))
    assert (expected(inputs) - model(inputs)).abs().max() > 0.05
