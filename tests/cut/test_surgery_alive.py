"""A cut in place while something else holds the parameters: hooks, an autograd graph, a compiled module, processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from support.networks import Residual, classes, unit_gain
from support.references import without

DATA = classes(24, 2, 5, 5)
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "compensate": "zero", "units": 0.5}


def residual() -> nn.Module:
    return unit_gain(Residual()).train()


def loss_of(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(DATA[0][0]), DATA[0][1])


@pytest.mark.parametrize("held", [False, True], ids=["", "last loss held"])
def test_hooks_on_a_parameter_stay_and_can_be_removed(held: bool) -> None:
    model = residual()
    gradients: list[tuple[int, ...]] = []
    accumulated: list[tuple[tuple[int, ...], bool]] = []
    weight = model.a1.weight
    on_gradient = weight.register_hook(lambda gradient: gradients.append(tuple(gradient.shape)))
    after = weight.register_post_accumulate_grad_hook(
        lambda parameter: accumulated.append((tuple(parameter.grad.shape), parameter is model.a1.weight))
    )
    weight.note = "mine"
    loss = loss_of(model)
    loss.backward()
    if not held:
        del loss
    dh.prune(model, DATA, **FAST, inplace=True)
    assert (model.a1.weight is weight) != held, "an old graph needs the old one"
    gradients.clear()
    accumulated.clear()
    model.zero_grad()
    loss_of(model).backward()
    shape = tuple(model.a1.weight.shape)
    assert shape == (2, 3, 3, 3)
    assert (gradients, accumulated) == ([shape], [(shape, True)])
    assert model.a1.weight.note == "mine"
    on_gradient.remove()
    after.remove()
    loss_of(model).backward()
    assert (len(gradients), len(accumulated)) == (1, 1)


@pytest.mark.parametrize("held", [False, True], ids=["", "last loss held"])
def test_an_optimizer_that_steps_in_the_backward_pass_goes_on(held: bool) -> None:
    """One optimizer for each parameter, called by its hook as soon as the gradient is there."""
    model = residual()
    each = {name: torch.optim.SGD([parameter], 0.05) for name, parameter in model.named_parameters()}

    def hook(name: str) -> Any:
        def step(parameter: Tensor) -> None:
            each[name].param_groups[0]["params"][0] = parameter
            each[name].step()
            parameter.grad = None

        return step

    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(hook(name))
    loss = loss_of(model)
    loss.backward()
    if not held:
        del loss
    dh.prune(model, DATA, **FAST, inplace=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    loss_of(model).backward()
    assert not any(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("held", [False, True], ids=["", "last loss held"])
def test_an_old_graph_does_not_disturb_the_optimizer(held: bool) -> None:
    model = residual()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    loss = loss_of(model)
    loss.backward()
    optimizer.step()
    if not held:
        del loss
    dh.prune(model, DATA, **FAST, inplace=True, optimizer=optimizer)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}
    seen = []
    for _ in range(10):
        optimizer.zero_grad()
        new = loss_of(model)
        new.backward()
        optimizer.step()
        seen.append(new.item())
    assert seen[-1] < seen[0]


def test_a_compiled_module_follows_a_cut_of_what_it_compiles() -> None:
    model = residual().eval()
    compiled = torch.compile(model, backend="eager")
    before = compiled(DATA[0][0])
    pruned = dh.prune(model, DATA, **FAST, inplace=True)
    found = compiled(DATA[0][0])
    assert torch.equal(found, model(DATA[0][0]))
    assert not torch.equal(found, before)
    assert [id(p) for p in compiled.parameters()] == [id(p) for p in pruned.model.parameters()]


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_module_of_several_processes_is_wrapped_anew_after_a_cut(one_process: None) -> None:
    """The wrapper holds the old graph, so that its module's parameters are new ones."""
    model = residual()
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.05, momentum=0.9)
    loss_of(wrapped).backward()
    optimizer.step()
    optimizer.zero_grad()
    momentum = {name: optimizer.state[p]["momentum_buffer"].clone() for name, p in model.named_parameters()}
    pruned = dh.prune(model, DATA, **FAST, inplace=True, optimizer=optimizer)
    kept = [k for k in range(4) if k not in pruned.plan.removed["a1"].tolist()]
    assert torch.equal(optimizer.state[model.a1.bias]["momentum_buffer"], momentum["a1.bias"][kept])
    again = nn.parallel.DistributedDataParallel(model)
    before = loss_of(again)
    before.backward()
    optimizer.step()
    assert loss_of(again) < before


def test_the_module_inside_is_cut_as_any_other() -> None:
    model = residual().eval()
    new = torch.randn(5, 2, 5, 5).double()
    pruned = dh.prune(torch.compile(model, backend="eager")._orig_mod, DATA, **FAST)
    columns = {"a2": pruned.plan.removed["a1"].tolist(), "b2": pruned.plan.removed["b1"].tolist()}
    if "stem" in pruned.plan.removed:
        columns |= {name: pruned.plan.removed["stem"].tolist() for name in ("a1", "b1", "fc")}
    torch.testing.assert_close(pruned.model(new), without(model, columns, new), rtol=1e-10, atol=1e-11)
