"""State that an optimizer keeps in one vector for all parameters is cut entry by entry, or forgotten."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

import deadhead as dh
from deadhead.cut.optimizer import adopt, cut_in_place
from deadhead.cut.optimizer_state import flat_state_of, state_of
from deadhead.cut.surgery import Surgery, operate
from deadhead.select.plan import plan_of
from support.cut_optimizers import (
    DATA,
    EACH,
    SIZES,
    Make,
    agree,
    close,
    cut,
    pruned_with_biases,
    step,
    surgery_of,
    trained,
)
from support.networks import mlp


def lbfgs(search: str | None) -> Make:
    return lambda p: optim.LBFGS(p, 0.3, max_iter=3, history_size=4, line_search_fn=search)


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_a_history_of_steps_with_closed_units_is_cut(search: str | None, inplace: bool) -> None:
    model = mlp(*SIZES).train()
    for name, parameter in model.named_parameters():
        close(name, parameter)
    optimizer = lbfgs(search)(model.parameters())
    for _ in range(3):
        step(model, optimizer)
    large = copy.deepcopy(model)
    reference = lbfgs(search)(large.parameters())
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    small, trainer = cut(model, optimizer, inplace)
    assert len(trainer.state[next(small.parameters())]["old_dirs"]) == 4
    for _ in range(4):
        step(large, reference)
        step(small, trainer)
    agree(small, large, 1e-9)
    assert trainer._numel() == sum(p.numel() for p in small.parameters())  # type: ignore[attr-defined]
    assert trainer._params is trainer.param_groups[0]["params"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_history_of_another_function_is_forgotten(steps: int, search: str | None, inplace: bool) -> None:
    model, optimizer = trained(lbfgs(search), steps)
    small, trainer = cut(model, optimizer, inplace)
    other = copy.deepcopy(small)
    anew = lbfgs(search)(other.parameters())
    for _ in range(3):
        assert step(small, trainer) == step(other, anew)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), other.parameters(), strict=True))


def test_a_history_is_forgotten_where_the_remaining_weights_change() -> None:
    model = mlp(*SIZES).train()
    for name, parameter in model.named_parameters():
        close(name, parameter)
    optimizer = lbfgs(None)(model.parameters())
    step(model, optimizer)
    cut_in_place(optimizer, model, surgery_of(model), same_weights=False)
    assert not optimizer.state[next(model.parameters())]


def test_a_history_is_forgotten_where_a_bias_is_new() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)).double()
    optimizer = lbfgs(None)(model.parameters())
    step(model, optimizer)
    surgery = Surgery(biases={"0.bias": 4})
    cut_in_place(optimizer, model, surgery)
    assert optimizer.state[model[0].weight], "nothing was removed, and no weight changed"
    operate(model, surgery)
    adopt(optimizer, model, surgery)
    assert not optimizer.state[model[0].weight]
    first = step(model, optimizer)
    assert step(model, optimizer) < first


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("compensate", ["zero", "least_squares"])
def test_a_prune_says_whether_the_remaining_weights_are_the_same(compensate: str, inplace: bool) -> None:
    model = mlp(*SIZES).train()
    for name, parameter in model.named_parameters():
        close(name, parameter)
    optimizer = lbfgs(None)(model.parameters())
    step(model, optimizer)
    pruned = dh.prune(model, [DATA], loss="cross_entropy", plan=plan_of([("0", 1), ("0", 4), ("2", 0)]),
                      compensate=compensate, optimizer=optimizer, inplace=inplace, curve=0)  # fmt: skip
    assert pruned.optimizer is not None
    assert bool(flat_state_of(pruned.optimizer)) == (compensate == "zero")


class Flat(Optimizer):
    """Momentum in one tensor for all parameters of a group, held by the last of them."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            gradient = torch.cat([p.grad.flatten() for p in group["params"]])
            state = self.state[group["params"][-1]]
            state["momentum"] = 0.9 * state.get("momentum", torch.zeros_like(gradient)) + gradient
            offset = 0
            for p in group["params"]:
                p.sub_(state["momentum"][offset : offset + p.numel()].view_as(p), alpha=group["lr"])
                offset += p.numel()
        return loss


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
def test_flat_momentum_is_cut_entry_by_entry(inplace: bool) -> None:
    model, optimizer = trained(Flat)
    large = copy.deepcopy(model)
    reference = Flat(large.parameters())
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    offset = 0
    momentum = reference.state[list(large.parameters())[-1]]["momentum"]
    for name, parameter in large.named_parameters():
        close(name, parameter)
        close(name, momentum[offset : offset + parameter.numel()].view_as(parameter))
        offset += parameter.numel()
    small, trainer = cut(model, optimizer, inplace)
    for _ in range(3):
        step(large, reference)
        step(small, trainer)
    agree(small, large)


def test_flat_state_is_seen_in_each_parameters_shape() -> None:
    model, optimizer = trained(lbfgs(None))
    [flat] = flat_state_of(optimizer)
    assert {"d", "prev_flat_grad", "old_dirs.0", "old_stps.3"} <= set(flat.tensors)
    assert flat.offsets == [0, 18, 24, 54, 59, 74]
    weight = model.get_parameter("2.weight")
    for view in flat.views(weight):
        assert view.shape == weight.shape
        view[1] = 7
    for name, tensor in flat.tensors.items():
        assert (tensor == 7).nonzero()[:, 0].tolist() == list(range(24 + 6, 24 + 12)), name
    assert not flat.views(torch.ones(2))
    assert not any(state_of(optimizer, parameter) for parameter in model.parameters())


def test_one_vector_alone_is_entry_by_entry_and_its_history_is_flat() -> None:
    vector = nn.Parameter(torch.ones(4))
    for make, entries, flat in ((EACH["adam"], 2, 0), (lbfgs(None), 0, 1)):
        optimizer = make([vector])
        for _ in range(2):
            optimizer.step(lambda o=optimizer: _square(vector, o))
        assert len(state_of(optimizer, vector)) == entries
        assert len(flat_state_of(optimizer)) == flat


def _square(vector: Tensor, optimizer: Optimizer) -> Tensor:
    optimizer.zero_grad()
    loss = vector.pow(4).sum()
    loss.backward()
    return loss


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("make", [Flat, lbfgs(None)], ids=["flat", "history"])
def test_flat_state_has_room_for_new_biases(make: Make, inplace: bool) -> None:
    pruned, trainer = pruned_with_biases(lambda model: make(model.parameters()), inplace)
    for flat in flat_state_of(trainer):
        for name in pruned.surgery.biases:
            assert not any(view.any() for view in flat.views(pruned.model.get_parameter(name)))
    first = step(pruned.model, trainer)
    for _ in range(5):
        last = step(pruned.model, trainer)
    assert last < first
