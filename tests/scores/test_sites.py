"""Units closed where they are made: the raw output of a layer, before batch norm, pool and nonlinearity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.gates.state import PrunedState
from deadhead.scores.criterion import Question, ask
from support.networks import Flat, Residual, classes, mlp, unit_gain

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, dict[str, tuple[str, ...]]]] = {
    "mlp": (lambda: mlp(3, 5, 4, 3), (3,), 3, {"0": ("0",), "2": ("2",)}),
    "flattened channels": (
        lambda: unit_gain(Flat()), (2, 6, 6), 4, {"conv1": ("conv1",), "conv2": ("conv2",), "fc1": ("fc1",)},
    ),
    "residual": (
        lambda: unit_gain(Residual()), (2, 5, 5), 3, {"stem": ("stem", "a2", "b2"), "a1": ("a1",), "b1": ("b1",)},
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", CASES)


def case(name: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], dict[str, tuple[str, ...]]]:
    make, shape, count, producers = CASES[name]
    return make().double(), [(x.double(), t) for x, t in classes(9, *shape, count=count, batch=4)], producers


def losses(model: nn.Module, x: Tensor, t: Tensor, edits: dict[str, Callable[[Tensor], Tensor]]) -> Tensor:
    """The loss of each row, with what some modules give changed by a hook."""
    handles = [
        model.get_submodule(module).register_forward_hook(lambda _, args, out, edit=edit: edit(out))
        for module, edit in edits.items()
    ]
    try:
        return F.cross_entropy(model(x), t, reduction="none")
    finally:
        for handle in handles:
            handle.remove()


def means(model: nn.Module, data: list[tuple[Tensor, Tensor]], module: str) -> Tensor:
    """The mean of what a module gives, over samples and positions."""
    seen: list[Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(lambda _, args, out: seen.append(out))
    with torch.no_grad():
        for x, _ in data:
            model(x)
    handle.remove()
    return torch.cat([out.movedim(1, -1).flatten(0, -2) for out in seen]).mean(0)


def mixed(out: Tensor, alpha: Tensor, reference: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (out.dim() - 2))
    return reference.reshape(shape) + alpha.reshape(shape) * (out - reference.reshape(shape))


def edits_of(
    modules: tuple[str, ...], alpha: Tensor, references: dict[str, Tensor]
) -> dict[str, Callable[..., Tensor]]:
    return {each: lambda out, each=each: mixed(out, alpha, references[each]) for each in modules}


def references_of(
    model: nn.Module, data: list[tuple[Tensor, Tensor]], modules: tuple[str, ...], kind: str
) -> dict[str, Tensor]:
    found = {each: means(model, data, each) for each in modules}
    return found if kind == "mean" else {each: torch.zeros_like(mean) for each, mean in found.items()}


@ALL
@pytest.mark.parametrize("reference", ["zero", "mean"])
def test_closing_at_the_producer_is_a_loop_over_hooks(name: str, reference: str) -> None:
    model, data, producers = case(name)
    network = dh.trace(model, data[0][0])
    options = {"loss": "cross_entropy", "site": "producer"}
    found = dh.score(network, data, criterion="oracle", reference=reference, **options)
    penalty = dh.score(network, data, criterion="mrp", **options)
    here = dh.score(network, data, criterion="oracle", reference=reference, loss="cross_entropy")
    for group, modules in producers.items():
        references = references_of(model, data, modules, reference)
        changes = []
        for unit in range(len(found[group])):
            alpha = torch.ones(len(found[group]), dtype=torch.float64)
            alpha[unit] = 0
            edits = edits_of(modules, alpha, references)
            with torch.no_grad():
                changes.append(torch.cat([losses(model, x, t, edits) - losses(model, x, t, {}) for x, t in data]))
        expected = torch.stack(changes)
        torch.testing.assert_close(found[group], expected.mean(1), rtol=1e-10, atol=1e-12)
        if reference == "mean":
            torch.testing.assert_close(penalty[group], expected.abs().sum(1), rtol=1e-10, atol=1e-12)
    # Tanh(0) is 0: without the mean, before and after it are the same.
    moved = max(float((found[group] - here[group]).abs().max()) for group in producers)
    assert moved > 1e-3 or (name, reference) == ("mlp", "zero")


@ALL
def test_derivatives_at_the_producer_are_those_of_hooks(name: str) -> None:
    model, data, producers = case(name)
    network = dh.trace(model, data[0][0])
    options = {"loss": "cross_entropy", "site": "producer"}
    saliency = dh.score(network, data, criterion="mrs", **options)
    first = dh.score(network, data, criterion="taylor1", **options)
    rows = [(x[i : i + 1], t[i : i + 1]) for x, t in data for i in range(len(x))]
    for group, modules in producers.items():
        for kind, found in (("mean", saliency), ("zero", first)):
            references = references_of(model, data, modules, kind)
            slopes = []
            for x, t in rows:
                alpha = torch.ones(len(found[group]), dtype=torch.float64, requires_grad=True)
                loss = losses(model, x, t, edits_of(modules, alpha, references)).sum()
                slopes.append(torch.autograd.grad(loss, alpha)[0])
            slope = torch.stack(slopes)
            expected = slope.abs().sum(0) if kind == "mean" else -slope.mean(0)
            torch.testing.assert_close(found[group], expected, rtol=1e-9, atol=1e-12)


def test_what_is_gone_already_is_gone_at_the_consumers() -> None:
    model, data, _ = case("residual")
    network = dh.trace(model, data[0][0])
    closed = {"a1": torch.tensor([1.0, 0, 1, 1])}
    state = PrunedState.of(network).closing(closed)
    question = Question(state, network.groups, read(data), as_loss("cross_entropy"), site="producer")
    found = ask(question, "oracle")
    with torch.no_grad():
        model.a2.weight.mul_(closed["a1"].double()[None, :, None, None])
    expected = dh.score(model, data, loss="cross_entropy", criterion="oracle", site="producer")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("criterion", ["taylor2", "certificate"])
def test_what_judges_by_the_consumers_says_so(criterion: str) -> None:
    model, data, _ = case("mlp")
    with pytest.raises(dh.DataError, match=f'{criterion} judges units by what their consumers read; leave site="cons'):
        dh.score(model, data, loss="cross_entropy", criterion=criterion, site="producer")
    with pytest.raises(dh.DataError, match="no site 'here'; the sites are consumer, producer"):
        dh.score(model, data, loss="cross_entropy", site="here")


@pytest.mark.parametrize("criterion", ["taylor2_exact", "taylor2_gauss_newton"])
def test_curvature_at_the_producer_is_that_of_the_gates_there(criterion: str) -> None:
    model, data, producers = case("mlp")
    found = dh.score(model, data, loss="cross_entropy", criterion=criterion, site="producer")
    first = dh.score(model, data, loss="cross_entropy", criterion="taylor1", site="producer")
    x, t = (torch.cat(parts) for parts in zip(*data, strict=True))
    for group, modules in producers.items():
        size = len(found[group])
        references = {each: torch.zeros(size, dtype=torch.float64) for each in modules}

        def outputs(alpha: Tensor) -> Tensor:
            seen: list[Tensor] = []
            handle = model.register_forward_hook(lambda _, args, out: seen.append(out))
            losses(model, x, t, edits_of(modules, alpha, references))  # noqa: B023
            handle.remove()
            return seen[0]

        one = torch.ones(size, dtype=torch.float64)
        if criterion == "taylor2_exact":
            hessian = torch.autograd.functional.hessian(lambda a: F.cross_entropy(outputs(a), t), one)
        else:
            jacobian = torch.autograd.functional.jacobian(outputs, one)
            p = outputs(one).softmax(1).detach()
            inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
            hessian = torch.einsum("nik,nij,njl->kl", jacobian, inner, jacobian) / len(x)
        torch.testing.assert_close(found[group] - first[group], hessian.diagonal() / 2, rtol=1e-9, atol=1e-12)


def test_a_prune_can_judge_at_the_producers() -> None:
    model, data, _ = case("residual")
    options = {"site": "producer", "reference": "mean", "absolute": True}
    found = dh.prune(
        model, data, loss="cross_entropy", units=0.5, criterion="oracle", criterion_options=options, rounds=2
    )
    assert found.plan.count > 3
    with pytest.raises(dh.DataError, match="no option 'place'; its options are reference, baseline, site"):
        dh.prune(model, data, loss="cross_entropy", units=0.5, criterion_options={"place": 1})
