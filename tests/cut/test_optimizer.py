"""An optimizer that was cut along takes the step that it would take on the intact network with the removed units at
zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import Optimizer, lr_scheduler

import deadhead as dh
from deadhead.cut.optimizer import adopt, cut_in_place, exchange, follow
from deadhead.cut.optimizer_state import flat_state_of, state_of
from deadhead.cut.surgery import Surgery, copy_of, operate
from support.cut_optimizers import (
    DATA,
    EACH,
    REMOVED,
    agree,
    cut,
    kept,
    pruned_with_biases,
    smaller,
    step,
    trained,
    zeroed,
)
from support.networks import mlp
from support.snapshot import bits


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
