"""Gates: open to the bit, closed as a hook would, and in between as autograd sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import Batch, as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from support.networks import Flat, Residual, TwoReaders, classes, conv_pair, mlp, unit_gain
from support.references import axis_of, gate_gradients, loss_changes, losses, mean_of, reading, replaced, without
from support.snapshot import Unharmed, bits


def rows_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy written out."""
    return torch.logsumexp(outputs, 1) - outputs[torch.arange(len(outputs)), targets]


Columns = dict[str, dict[str, Callable[[int], list[int]]]]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Columns]] = {
    "mlp": (
        lambda: mlp(3, 5, 4, 3),
        (3,),
        {"0": {"2": lambda k: [k]}, "2": {"4": lambda k: [k]}},
    ),
    "flat": (
        lambda: unit_gain(Flat()),
        (2, 6, 6),
        {
            "conv1": {"conv2": lambda k: [k]},
            "conv2": {"fc1": lambda k: list(range(4 * k, 4 * k + 4))},
            "fc1": {"fc2": lambda k: [k]},
        },
    ),
    "residual": (
        lambda: unit_gain(Residual()),
        (2, 5, 5),
        {
            "stem": {"a1": lambda k: [k], "b1": lambda k: [k], "fc": lambda k: [k]},
            "a1": {"a2": lambda k: [k]},
            "b1": {"b2": lambda k: [k]},
        },
    ),
    "two readers": (lambda: unit_gain(TwoReaders()), (3,), {"hidden": {"left": lambda k: [k], "right": lambda k: [k]}}),
    "grouped": (lambda: conv_pair(groups=2, padding=1), (2, 4, 4), {"0": {"2": lambda k: [k, 3 + k]}}),
}  # fmt: skip
"""A network, the shape of a row, and for each group the columns of unit k at each of its consumers, by hand."""

ALL = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, rows: int = 6) -> tuple[nn.Module, dh.Network, Gates, Batch, list[tuple[Tensor, Tensor]]]:
    make, shape, _ = NETWORKS[name]
    model = make()
    data = classes(rows, *shape, count=2 if name == "two readers" else 3)
    if name == "grouped":
        data = [(data[0][0], data[0][0].new_zeros(rows, 6, 4, 4))]
    network = dh.trace(model, data[0][0])
    loss = as_loss("squared_error" if name == "grouped" else "cross_entropy")
    return model, network, Gates(network, loss), as_batch(data[0]), data


def loss_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if name == "grouped":
        return lambda outputs, targets: 0.5 * (outputs - targets).square().flatten(1).sum(1)
    return rows_entropy


@ALL
def test_the_groups_are_those_worked_out_by_hand(name: str) -> None:
    _, network, _, _, _ = build(name)
    assert [group.name for group in network.groups] == list(NETWORKS[name][2])


@ALL
def test_open_gates_are_the_module_to_the_bit(name: str) -> None:
    model, network, gates, batch, data = build(name)
    alpha = {group.name: torch.ones(group.size) for group in network.groups}
    assert bits(gates.outputs(alpha, batch)) == bits(model(data[0][0]))
    with_means = Gates(network, gates.loss_function, {
        group.name: [torch.randn(len(site.units)).double() for site in group.consumers] for group in network.groups
    })  # fmt: skip
    assert bits(with_means.outputs(alpha, batch)) == bits(model(data[0][0]))


@ALL
def test_the_loss_is_that_of_each_row_by_itself(name: str) -> None:
    model, _, gates, batch, data = build(name)
    torch.testing.assert_close(gates.loss({}, batch), losses(model, data, loss_of(name)), rtol=1e-12, atol=1e-13)


@ALL
def test_a_closed_gate_is_a_hook_that_zeroes_what_the_consumers_read(name: str) -> None:
    model, network, gates, batch, data = build(name)
    moved = []
    for group in network.groups:
        for unit in range(group.size):
            alpha = torch.ones(group.size)
            alpha[unit] = 0
            columns = {module: which(unit) for module, which in NETWORKS[name][2][group.name].items()}
            expected = without(model, columns, data[0][0])
            torch.testing.assert_close(gates.outputs({group.name: alpha}, batch), expected, rtol=1e-13, atol=1e-13)
            moved.append((expected - model(data[0][0])).abs().max() / expected.abs().max())
    assert min(moved) > 0.01, "a gate that moves nothing proves nothing"


@ALL
@pytest.mark.parametrize("amount", [0.0, 0.3, 2.5])
def test_a_gate_at_alpha_is_a_hook_that_interpolates_to_the_reference(name: str, amount: float) -> None:
    model, network, _, batch, data = build(name)
    group = network.groups[-1]
    hand = NETWORKS[name][2][group.name]
    values = {site.module: torch.randn(len(site.units)).double() for site in group.consumers}
    gates = Gates(network, as_loss("mse"), {group.name: [values[site.module] for site in group.consumers]})
    alpha = torch.ones(group.size, dtype=torch.float64)
    alpha[1] = amount

    def edit(module: str) -> Callable[[Tensor], Tensor]:
        axis = axis_of(model.get_submodule(module))
        which = hand[module](1)

        def apply(value: Tensor) -> Tensor:
            kept = value.movedim(axis, -1)[..., which]
            at = values[module][which]
            return replaced(axis, which, at + amount * (kept - at))(value)

        return apply

    with reading(model, {module: edit(module) for module in hand}):
        expected = model(data[0][0])
    torch.testing.assert_close(gates.outputs({group.name: alpha}, batch), expected, rtol=1e-12, atol=1e-12)


@ALL
def test_the_loss_is_differentiable_in_alpha_as_dense_autograd_has_it(name: str) -> None:
    model, network, gates, batch, data = build(name)
    alpha = {group.name: torch.ones(group.size, dtype=torch.float64, requires_grad=True) for group in network.groups}
    total = gates.loss(alpha, batch).sum()
    found = torch.autograd.grad(total, list(alpha.values()))
    for group, gradient in zip(network.groups, found, strict=True):
        for unit in range(group.size):
            columns = {module: which(unit) for module, which in NETWORKS[name][2][group.name].items()}
            zero = {module: torch.zeros(1000, dtype=torch.float64) for module in columns}
            expected = gate_gradients(model, columns, zero, data, loss_of(name)).sum()
            torch.testing.assert_close(gradient[unit], expected, rtol=1e-9, atol=1e-12)


@ALL
def test_sensitivities_are_the_gradients_that_reach_each_consumer(name: str) -> None:
    model, network, gates, batch, data = build(name)
    seen: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
    given = gates.sensitivities(batch, lambda group, index, a, g: seen.update({(group.name, index): (a, g)}))
    torch.testing.assert_close(given, losses(model, data, loss_of(name)), rtol=1e-12, atol=1e-13)
    assert len(seen) == sum(len(group.consumers) for group in network.groups)
    for group in network.groups:
        for index, site in enumerate(group.consumers):
            read: list[Tensor] = []

            def keep(value: Tensor, read: list[Tensor] = read) -> Tensor:
                read.append(value.detach().requires_grad_())
                return read[-1]

            with reading(model, {site.module: keep}):
                total = loss_of(name)(model(data[0][0]), data[0][1]).sum()
            expected = torch.autograd.grad(total, read[0])[0]
            torch.testing.assert_close(seen[group.name, index][0], read[0].detach(), rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(seen[group.name, index][1], expected, rtol=1e-10, atol=1e-12)


def test_alpha_may_differ_from_row_to_row() -> None:
    model, _, gates, batch, data = build("mlp")
    alpha = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)).double()
    with reading(model, {"2": lambda value: value * alpha}):
        expected = model(data[0][0])
    torch.testing.assert_close(gates.outputs({"0": alpha}, batch), expected, rtol=1e-13, atol=1e-13)


def test_gates_of_several_groups_act_together() -> None:
    model, _, gates, batch, data = build("residual")
    alpha = {"stem": torch.tensor([0, 1, 1, 0, 1, 1.0]), "b1": torch.tensor([1, 0, 1, 1, 1.0])}
    expected = without(model, {"a1": [0, 3], "b1": [0, 3], "fc": [0, 3], "b2": [1]}, data[0][0])
    torch.testing.assert_close(gates.outputs(alpha, batch), expected, rtol=1e-13, atol=1e-13)


def test_the_mean_as_reference_is_the_mean_over_samples_and_positions() -> None:
    model, network, _, batch, data = build("residual")
    means = {module: mean_of(model, module, data) for module in ("a1", "b1", "fc")}
    group = network.groups[0]
    gates = Gates(network, as_loss("cross_entropy"), {"stem": [means[site.module] for site in group.consumers]})
    alpha = torch.ones(6)
    alpha[2] = 0
    edits = {module: replaced(axis_of(model.get_submodule(module)), [2], mean[[2]]) for module, mean in means.items()}
    expected = loss_changes(model, edits, data, rows_entropy)
    found = gates.loss({"stem": alpha}, batch) - gates.loss({}, batch)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_asking_leaves_the_model_and_its_gradients_as_they_were(unharmed: Unharmed) -> None:
    model, network, gates, batch, data = build("residual")
    model.train()
    F.cross_entropy(model(data[0][0]), data[0][1]).backward()
    with unharmed(model, data[0][0]):
        alpha = {group.name: torch.ones(group.size, requires_grad=True) for group in network.groups}
        gates.loss(alpha, batch).sum().backward()
        gates.sensitivities(batch, lambda *_: None)
        gates.observe(batch, lambda *_: None)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    _, network, _, batch, _ = build("mlp")
    gates = Gates(network, as_loss(lambda outputs, batch: outputs.sum(1).abs().neg().log()))
    with pytest.raises(dh.LossError, match="not finite"):
        gates.loss({}, batch)
    with pytest.raises(dh.LossError, match="not finite"):
        gates.sensitivities(batch, lambda *_: None)
