"""An optimizer that was cut along takes the step that it would take on the intact network with the removed units at
zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer, lr_scheduler

import deadhead as dh
from deadhead.cut.optimizer import adopt, cut_in_place, exchange, follow
from deadhead.cut.optimizer_state import flat_state_of, state_of
from deadhead.cut.surgery import Surgery, copy_of, operate
from deadhead.select.plan import plan_of
from support.networks import classes, mlp
from support.snapshot import bits

DATA = classes(24, 3)[0]
REMOVED = {"0.weight": {0: [1, 4]}, "0.bias": {0: [1, 4]}, "2.weight": {1: [1, 4], 0: [0]}, "2.bias": {0: [0]},
           "4.weight": {1: [0]}}  # fmt: skip
"""Two units of the first layer and one of the second."""
SIZES = (3, 6, 5, 3)
Make = Callable[[Any], Optimizer]

EACH: dict[str, Make] = {
    "sgd": lambda p: optim.SGD(p, 0.05),
    "sgd momentum": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True, foreach=False),
    "sgd foreach": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, dampening=0.1, foreach=True),
    "sgd fused": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda p: optim.Adam(p, 0.02, weight_decay=0.1, foreach=False),
    "adam amsgrad": lambda p: optim.Adam(p, 0.02, amsgrad=True, foreach=True),
    "adam fused": lambda p: optim.Adam(p, 0.02, amsgrad=True, fused=True),
    "adam capturable step": lambda p: optim.Adam(p, torch.tensor(0.02), foreach=False),
    "adamw": lambda p: optim.AdamW(p, 0.02, weight_decay=0.3, foreach=False),
    "adamw foreach": lambda p: optim.AdamW(p, 0.02, weight_decay=0.3, foreach=True),
    "adamw fused": lambda p: optim.AdamW(p, 0.02, weight_decay=0.3, fused=True),
    "adagrad": lambda p: optim.Adagrad(p, 0.05, lr_decay=0.1, initial_accumulator_value=0.1),
    "adadelta": lambda p: optim.Adadelta(p, 1.0, weight_decay=0.1),
    "adamax": lambda p: optim.Adamax(p, 0.02),
    "nadam": lambda p: optim.NAdam(p, 0.02, weight_decay=0.1),
    "radam": lambda p: optim.RAdam(p, 0.02),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "rprop": lambda p: optim.Rprop(p, 0.01),
    "asgd": lambda p: optim.ASGD(p, 0.05, t0=2),
}
"""Optimizers that update an entry by that entry's own gradients alone."""


def kept(name: str, size: int, axis: int) -> list[int]:
    return [i for i in range(size) if i not in REMOVED.get(name, {}).get(axis, [])]


def surgery_of(model: nn.Module) -> Surgery:
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    keep = {name: {axis: kept(name, shapes[name][axis], axis) for axis in axes} for name, axes in REMOVED.items()}
    return Surgery(keep, [("0", "out_features", 4), ("2", "in_features", 4), ("2", "out_features", 4)])


def smaller(name: str, tensor: Tensor) -> Tensor:
    """What is left of a tensor that lies like a parameter."""
    for axis, removed in REMOVED.get(name, {}).items():
        rest = [i for i in range(tensor.shape[axis]) if i not in removed]
        tensor = tensor.movedim(axis, 0)[rest].movedim(0, axis)
    return tensor


def close(name: str, tensor: Tensor) -> None:
    with torch.no_grad():
        for axis, removed in REMOVED.get(name, {}).items():
            tensor.movedim(axis, 0)[removed] = 0


def step(model: nn.Module, optimizer: Optimizer) -> float:
    @torch.enable_grad()
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(DATA[0]), DATA[1])
        loss.backward()
        return loss

    return optimizer.step(closure).item()  # type: ignore


def trained(make: Make, steps: int = 4) -> tuple[nn.Module, Optimizer]:
    model = mlp(*SIZES).train()
    optimizer = make(list(model.parameters()))
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def zeroed(make: Make, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Another pair in the same state, with zeros for the removed units in parameters and state. A hidden unit of tanh
    whose weights on both sides are zero has zero gradients, so that it stays."""
    other = copy.deepcopy(model)
    twin = make(list(other.parameters()))
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        if theirs in optimizer.state:
            twin.state[mine] = copy.deepcopy(optimizer.state[theirs])
    for name, parameter in other.named_parameters():
        close(name, parameter)
        for value in twin.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                close(name, value)
    return other, twin


def cut(model: nn.Module, optimizer: Optimizer, inplace: bool) -> tuple[nn.Module, Optimizer]:
    surgery = surgery_of(model)
    if not inplace:
        new = copy_of(model)
        operate(new, surgery)
        return new, follow(optimizer, model, new, surgery)
    cut_in_place(optimizer, model, surgery)
    exchange(optimizer, operate(model, surgery))
    adopt(optimizer, model, surgery)
    return model, optimizer


def agree(small: nn.Module, large: nn.Module, tolerance: float = 1e-12) -> None:
    for (name, found), expected in zip(small.named_parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(found, smaller(name, expected), rtol=tolerance, atol=tolerance)
    for name, parameter in large.named_parameters():
        rest = parameter.detach().clone()
        closed = torch.zeros_like(rest, dtype=torch.bool)
        for axis, removed in REMOVED.get(name, {}).items():
            closed.movedim(axis, 0)[removed] = True
        assert not rest[closed].any(), "the reference leaves the removed units at zero"


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("name", EACH)
def test_steps_after_a_cut_are_those_of_the_intact_network_with_zeros(name: str, inplace: bool) -> None:
    model, optimizer = trained(EACH[name])
    large, reference = zeroed(EACH[name], model, optimizer)
    small, trainer = cut(model, optimizer, inplace)
    assert (trainer is optimizer) == inplace
    for _ in range(3):
        step(large, reference)
        step(small, trainer)
    agree(small, large)


@pytest.mark.parametrize("name", EACH)
def test_the_copy_leaves_the_optimizer_as_it_was(name: str) -> None:
    model, optimizer = trained(EACH[name])
    same = copy.deepcopy(model)
    before = copy.deepcopy(optimizer.state_dict())
    small, trainer = cut(model, optimizer, inplace=False)
    step(small, trainer)
    assert str(optimizer.state_dict()) == str(before)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


# -- state that is no tensor of the parameter's shape -----------------------------------------------------------------


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
def test_muon_takes_the_same_step_but_for_its_learning_rate_by_shape(inplace: bool) -> None:
    """Newton and Schulz's iteration works on the matrix without zero rows and columns as on the one with them; the
    learning rate is adjusted by sqrt(max(1, rows / columns))."""

    def make(parameters: Any) -> Optimizer:
        return optim.Muon([p for p in parameters if p.dim() == 2], 0.05, weight_decay=0.0)

    model, optimizer = trained(make)
    large, reference = zeroed(make, model, optimizer)
    small, trainer = cut(model, optimizer, inplace)
    before = {name: (p.detach().clone(), q.detach().clone()) for (name, p), q in
              zip(small.named_parameters(), large.parameters(), strict=True)}  # fmt: skip
    step(large, reference)
    step(small, trainer)
    for (name, p), q in zip(small.named_parameters(), large.parameters(), strict=True):
        if p.dim() == 2:
            torch.testing.assert_close(
                trainer.state[p]["momentum_buffer"], smaller(name, reference.state[q]["momentum_buffer"])
            )
            ratio = [max(1, shape[0] / shape[1]) ** 0.5 for shape in (p.shape, q.shape)]
            moved = (p - before[name][0]) / ratio[0]
            expected = smaller(name, q - before[name][1]) / ratio[1]
            assert (moved - expected).norm() < 0.03 * expected.norm(), "the iteration is in bfloat16"


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("foreach", [False, True])
def test_averages_over_rows_and_columns_keep_those_that_remain(inplace: bool, foreach: bool) -> None:
    """Adafactor divides by the number of columns, so that its step is another; its averages go on from what they
    were."""
    model, optimizer = trained(lambda p: optim.Adafactor(p, 0.05, foreach=foreach))
    before = [{k: v.clone() for k, v in optimizer.state[p].items()} for p in model.parameters()]
    small, trainer = cut(model, optimizer, inplace)
    for (name, parameter), old in zip(small.named_parameters(), before, strict=True):
        state, axes = trainer.state[parameter], {axis: kept(name, 99, axis) for axis in REMOVED.get(name, {})}
        if parameter.dim() == 1:
            assert torch.equal(state["variance"], smaller(name, old["variance"]))
            continue
        rows, columns = (axes.get(axis, list(range(99)))[: parameter.shape[axis]] for axis in (0, 1))
        assert torch.equal(state["row_var"], old["row_var"][rows])
        assert torch.equal(state["col_var"], old["col_var"][:, columns])
    held = [{k: v.clone() for k, v in trainer.state[p].items()} for p in small.parameters()]
    first = step(small, trainer)
    for parameter, old in zip(small.parameters(), held, strict=True):
        if parameter.dim() == 2:
            new = (old["step"] + 1) ** -0.8
            expected = (1 - new) * old["row_var"] + new * parameter.grad.square().mean(1, keepdim=True)
            torch.testing.assert_close(trainer.state[parameter]["row_var"], expected, rtol=1e-5, atol=1e-8)
    for _ in range(5):
        last = step(small, trainer)
    assert last < first


class Rows(Optimizer):
    """Averages over rows and columns without the axis that was averaged, as in Adafactor of transformers."""

    names = ("row_average", "col_average")

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() > 1:
                    state, first = self.state[p], not self.state[p]
                    for name, axis in zip(self.names, (-1, -2), strict=True):
                        state[name] = p.grad.square().mean(axis) + (0 if first else state[name])
                p.sub_(p.grad, alpha=group["lr"])
        return loss


class Unnamed(Rows):
    names = ("one", "other")


def square() -> nn.Module:
    return mlp(3, 5, 5, 5, 3)


SQUARE = Surgery({"2.weight": {0: [0, 2], 1: [1, 2, 3]}, "4.weight": {1: [0, 2]}, "0.weight": {0: [1, 2, 3]},
                  "2.bias": {0: [0, 2]}, "0.bias": {0: [1, 2, 3]}})  # fmt: skip


def squared(kind: type[Optimizer]) -> tuple[nn.Module, Optimizer]:
    model = square()
    optimizer = kind(model.parameters())  # type: ignore[call-arg]
    step(model, optimizer)
    return model, optimizer


def test_vectors_over_rows_and_columns_of_a_square_matrix_are_told_apart_by_name() -> None:
    model, optimizer = squared(Rows)
    weight = model.get_parameter("2.weight")
    before = {k: v.clone() for k, v in optimizer.state[weight].items()}
    cut_in_place(optimizer, model, SQUARE)
    exchange(optimizer, operate(model, SQUARE))
    assert torch.equal(optimizer.state[weight]["row_average"], before["row_average"][[0, 2]])
    assert torch.equal(optimizer.state[weight]["col_average"], before["col_average"][[1, 2, 3]])
    step(model, optimizer)


def test_state_of_which_the_shape_does_not_say_how_to_cut_it_is_refused_and_nothing_changed() -> None:
    model, optimizer = squared(Unnamed)
    before = {id(p): {k: (id(v), bits(v)) for k, v in s.items()} for p, s in optimizer.state.items()}
    with pytest.raises(dh.CutError, match=r"state one of 2\.weight has shape \(5,\) beside \(5, 5\).*without the opt"):
        cut_in_place(optimizer, model, SQUARE)
    assert {id(p): {k: (id(v), bits(v)) for k, v in s.items()} for p, s in optimizer.state.items()} == before


def test_state_that_depends_on_no_cut_axis_stays() -> None:
    model, optimizer = trained(EACH["sgd momentum"])
    weight = model.get_parameter("2.weight")
    optimizer.state[weight] |= {"window": torch.arange(10.0), "count": torch.tensor(3), "note": "mine", "none": None}
    optimizer.state[weight]["past"] = [torch.ones_like(weight), {"inner": weight.detach().clone()}]
    expected = smaller("2.weight", weight.detach().clone())
    cut(model, optimizer, inplace=True)
    state = optimizer.state[weight]
    assert torch.equal(state["window"], torch.arange(10.0))
    assert (int(state["count"]), state["note"], state["none"]) == (3, "mine", None)
    assert state["past"][0].shape == weight.shape, "tensors in lists are cut too"
    assert torch.equal(state["past"][1]["inner"], expected)


def test_adafactor_of_transformers_is_cut_along() -> None:
    transformers = pytest.importorskip("transformers.optimization")
    model = square()
    optimizer = transformers.Adafactor(model.parameters(), lr=0.01, relative_step=False, scale_parameter=False)
    step(model, optimizer)
    cut_in_place(optimizer, model, SQUARE)
    exchange(optimizer, operate(model, SQUARE))
    state = optimizer.state[model.get_parameter("2.weight")]
    assert (state["exp_avg_sq_row"].shape, state["exp_avg_sq_col"].shape) == ((2,), (3,))
    step(model, optimizer)


# -- flat state -------------------------------------------------------------------------------------------------------


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


# -- what belongs to a parameter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", set()),
        ("sgd momentum", {"momentum_buffer"}),
        ("adam amsgrad", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
        ("rprop", {"prev", "step_size"}),
        ("asgd", {"ax"}),
        ("rmsprop", {"square_avg", "momentum_buffer", "grad_avg"}),
    ],
)
def test_state_of_a_parameter_is_what_has_its_shape(name: str, expected: set[str]) -> None:
    model, optimizer = trained(EACH[name])
    for parameter in model.parameters():
        found = state_of(optimizer, parameter)
        assert set(found) == expected
        assert all(found[key] is optimizer.state[parameter][key] for key in found)
    assert not flat_state_of(optimizer)
    assert not state_of(optimizer, torch.ones(3)), "a tensor that it does not hold"
    assert len(optimizer.state) in (0, 6), "asking leaves no empty state"


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


# -- groups, new biases, schedules -------------------------------------------------------------------------------------


def pruned_with_biases(make: Callable[[nn.Module], Optimizer], inplace: bool) -> tuple[dh.Pruned, Optimizer]:
    model = nn.Sequential(
        nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False)
    ).double()
    optimizer = make(model)
    for _ in range(3):
        step(model, optimizer)
    pruned = dh.prune(model, [DATA], loss="cross_entropy", units=0.5, optimizer=optimizer, inplace=inplace, curve=0)
    assert pruned.optimizer is not None
    assert pruned.model[2].bias is not None
    return pruned, pruned.optimizer


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("named", [False, True])
def test_new_biases_stand_where_an_optimizer_of_the_smaller_module_has_them(named: bool, inplace: bool) -> None:
    """So that the state dict goes into such a one."""
    pruned, trainer = pruned_with_biases(
        lambda m: optim.AdamW(m.named_parameters() if named else m.parameters(), 0.01), inplace
    )
    model = pruned.model
    assert [id(p) for p in trainer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
    if named:
        assert trainer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    step(model, trainer)
    other = copy.deepcopy(model)
    again = optim.AdamW(other.named_parameters() if named else other.parameters(), 0.01)
    again.load_state_dict(copy.deepcopy(trainer.state_dict()))
    step(model, trainer)
    step(other, again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
def test_groups_keep_their_options_and_a_new_bias_joins_its_weight(inplace: bool) -> None:
    def make(model: nn.Module) -> Optimizer:
        first, *rest = model.parameters()
        groups = [{"params": [first]}, {"params": rest[:1], "lr": 0.5}, {"params": rest[1:], "weight_decay": 0.3}]
        return optim.AdamW(groups, 0.01)

    pruned, trainer = pruned_with_biases(make, inplace)
    names = {id(p): name for name, p in pruned.model.named_parameters()}
    assert [[names[id(p)] for p in group["params"]] for group in trainer.param_groups] == [
        ["0.weight"], ["0.bias"], ["2.weight", "2.bias", "4.weight", "4.bias"],
    ]  # fmt: skip
    assert [(g["lr"], g["weight_decay"]) for g in trainer.param_groups] == [(0.01, 0.01), (0.5, 0.01), (0.01, 0.3)]


def test_a_new_bias_beside_a_parametrized_weight_is_trained_too() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)).double()
    nn.utils.parametrizations.weight_norm(model[2])
    for alone in (False, True):
        other, surgery = copy.deepcopy(model), Surgery(biases={"2.bias": 3})
        optimizer = optim.SGD((other[2] if alone else other).parameters(), 0.1)
        operate(other, surgery)
        adopt(optimizer, other, surgery)
        step(other, optimizer)
        assert other[2].bias.abs().min() > 0


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


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda n: 0.9**n),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=20),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_of_the_learning_rate_go_on_after_a_cut_in_place(kind: str) -> None:
    def rates(in_between: bool) -> list[float]:
        model, optimizer = trained(EACH["sgd momentum"], 1)
        schedule = SCHEDULES[kind](optimizer)
        seen = []
        for number in range(8):
            if number == 4 and in_between:
                cut(model, optimizer, inplace=True)
            step(model, optimizer)
            schedule.step(*([1.0] if kind == "plateau" else []))
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    found = rates(True)
    assert found == rates(False)
    assert len(set(found)) > 1


def test_a_copy_of_an_optimizer_with_a_schedule_steps_itself() -> None:
    model, optimizer = trained(EACH["adam"], 1)
    lr_scheduler.LambdaLR(optimizer, lambda n: 0.9**n)
    step(model, optimizer)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    small, trainer = cut(model, optimizer, inplace=False)
    held = [parameter.detach().clone() for parameter in small.parameters()]
    step(small, trainer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(small.parameters(), held, strict=True))


def test_tied_weights_are_cut_under_any_of_their_names() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4)).double()
    model[1].weight = model[0].weight
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    (model[0](DATA[0]) + model[1](DATA[0])).square().sum().backward()
    optimizer.step()
    before = optimizer.state[model[0].weight]["momentum_buffer"].clone()
    surgery = Surgery({"1.weight": {0: [0, 3]}})
    new = copy_of(model)
    operate(new, surgery)
    trainer = follow(optimizer, model, new, surgery)
    cut_in_place(optimizer, model, surgery)
    assert torch.equal(optimizer.state[model[0].weight]["momentum_buffer"], before[[0, 3]])
    assert torch.equal(trainer.state[new[0].weight]["momentum_buffer"], before[[0, 3]])
