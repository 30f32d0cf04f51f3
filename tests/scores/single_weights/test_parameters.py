"""Saliencies of single weights against dense autograd and plain loops on the user's own module, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import deadhead as dh
from deadhead.scores.single_weights import hessian, parameters
from deadhead.scores.single_weights.hessian import full_hessian
from deadhead.scores.single_weights.parameters import PARAMETER_CRITERIA, score_parameters
from support.networks import classes, mlp, unit_gain, values
from support.snapshot import Unharmed

Data = Sequence[tuple[Tensor, Tensor]]


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).sum(1).mean() / 2


REFERENCE_LOSSES = {"cross_entropy": F.cross_entropy, "squared_error": half_squares}


class Convolutions(nn.Module):
    """Two convolutions, a batch norm and a head: (n, 1, 5, 5) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 2, 2, bias=False)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.conv2(torch.tanh(self.norm(self.conv1(x))))).mean((2, 3)))


class Tied(nn.Module):
    """One weight that two layers share, under two names: (n, 3) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Normed(nn.Module):
    """A weight `g v / |v|` written out, its norm over all axes but one, or all: (n, 3) to (n, 3)."""

    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self.axes = tuple(i for i in range(2) if i != axis)
        self.bias = nn.Parameter(torch.empty(4))
        self.g = nn.Parameter(torch.empty({None: (), 0: (4, 1), 1: (1, 3)}[axis]))
        self.v = nn.Parameter(torch.empty(4, 3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.g * self.v / (self.v**2).sum(self.axes, keepdim=True).sqrt()
        return self.head(torch.tanh(F.linear(x, weight, self.bias)))


class Attention(nn.Module):
    """Self-attention over a sequence: (n, 4, 3) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(3, 6), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))


@dataclass(frozen=True)
class Case:
    """A network, its data and the name of its loss."""

    make: Callable[[], nn.Module]
    data: Data
    loss: str


CASES = {
    "mlp, cross-entropy": Case(lambda: mlp(3, 4, 3), classes(9, 3), "cross_entropy"),
    "mlp, squared error": Case(lambda: mlp(3, 4, 2), values(9, 3), "squared_error"),
    "conv, cross-entropy": Case(lambda: unit_gain(Convolutions()), classes(9, 1, 5, 5), "cross_entropy"),
    "conv, squared error": Case(lambda: unit_gain(Convolutions()), values(9, 1, 5, 5, out=3), "squared_error"),
    "relu, several batches": Case(
        lambda: mlp(3, 4, 3, activation=nn.ReLU), classes(9, 3, batch=4, seed=1), "cross_entropy"
    ),
    "tied": Case(lambda: unit_gain(Tied()), classes(9, 3), "cross_entropy"),
    "attention": Case(lambda: unit_gain(Attention()), classes(9, 4, 3), "cross_entropy"),
}
ALL = pytest.mark.parametrize("name", CASES)


class Reference:
    """L as a plain function of one flat vector of weights, through the module itself, and its dense derivatives."""

    def __init__(self, model: nn.Module, data: Data, loss: str) -> None:
        self.model, self.loss = model, REFERENCE_LOSSES[loss]
        self.inputs, self.targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
        self.shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.w = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        self.gradient = torch.autograd.functional.jacobian(self, self.w)
        with sdpa_kernel(SDPBackend.MATH):
            self.hessian = torch.autograd.functional.hessian(self, self.w)
        self.w.requires_grad_(False)

    def __call__(self, w: Tensor) -> Tensor:
        parts = w.split([shape.numel() for shape in self.shapes.values()])
        weights = {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        self.model.eval()
        return self.loss(functional_call(self.model, weights, (self.inputs,)), self.targets)

    def places(self, *names: str) -> Tensor:
        """Where the weights of these parameters lie in the flat vector."""
        ids = torch.arange(len(self.w)).split([shape.numel() for shape in self.shapes.values()])
        return torch.cat([part for name, part in zip(self.shapes, ids, strict=True) if name in names])

    def blocks(self) -> Tensor:
        """One where two weights are of the same parameter, shape (n, n)."""
        owner = torch.cat([torch.full((shape.numel(),), i) for i, shape in enumerate(self.shapes.values())])
        return (owner[:, None] == owner).double()

    def change(self, change: str, epsilon: float = 1.0) -> Tensor:
        if change == "removal":
            return -self.w
        return -epsilon * (self.w if change == "scaled" else torch.where(self.w > 0, 1.0, -1.0).double())

    def loop(self, dw: Tensor) -> Tensor:
        """The change of L for each weight changed alone."""
        eye = torch.eye(len(self.w), dtype=torch.float64)
        return torch.stack([self(self.w + dw * one) - self(self.w) for one in eye]).detach()


REFERENCES: dict[str, tuple[dh.Network, Reference]] = {}


def both(name: str) -> tuple[dh.Network, Reference]:
    """A network of each case and its reference, made once."""
    if name not in REFERENCES:
        case = CASES[name]
        REFERENCES[name] = dh.trace(case.make(), case.data[0][0]), Reference(case.make(), case.data, case.loss)
    return REFERENCES[name]


def flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in found.values()])


def ask(name: str, criterion: str, **options: Any) -> Tensor:
    """The scores of a case as one vector, in the order of its parameters."""
    network, reference = both(name)
    options = {"data": CASES[name].data, **options}
    found = score_parameters(network, options.pop("data"), loss=CASES[name].loss, criterion=criterion, **options)
    if "parameters" not in options:
        assert {key: value.shape for key, value in found.items()} == reference.shapes
    assert all(value.dtype == torch.float64 and value.device.type == "cpu" for value in found.values())
    assert not any(value.requires_grad for value in found.values())
    return flat(found)


def assert_same(found: Tensor, expected: Tensor, rtol: float = 1e-9) -> None:
    assert expected.abs().max() > 1e-6, "a saliency of nothing proves nothing"
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-12 * float(expected.abs().max()) + 1e-15)


# -- against dense derivatives ---------------------------------------------------------------------------------------


@ALL
def test_the_full_hessian_is_that_of_a_plain_function(name: str) -> None:
    network, reference = both(name)
    names, matrix = full_hessian(network, CASES[name].data, loss=CASES[name].loss)
    assert names == list(reference.shapes)
    assert torch.equal(matrix, matrix.T)
    assert_same(matrix, reference.hessian)


@ALL
def test_the_hessian_of_some_parameters_is_a_block_of_the_full_one(name: str) -> None:
    network, reference = both(name)
    chosen = [list(reference.shapes)[-1], next(iter(reference.shapes))]
    names, matrix = full_hessian(network, CASES[name].data, loss=CASES[name].loss, parameters=chosen)
    assert names == [each for each in reference.shapes if each in chosen]
    places = reference.places(*chosen)
    assert_same(matrix, reference.hessian[places][:, places])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weight_norm_has_its_second_derivatives(axis: int | None) -> None:
    """torch's own are wrong: its fused op takes the norm for a constant."""
    written = Normed(axis).double()
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4), dim=axis), nn.Tanh(), nn.Linear(4, 3))
    normed.double()
    with torch.no_grad():
        for ours, theirs in zip(written.parameters(), normed.parameters(), strict=True):
            ours.copy_(torch.randn(ours.shape).double())
            theirs.copy_(ours)
    reference = Reference(written, classes(9, 3), "cross_entropy")
    network = dh.trace(normed, classes(9, 3)[0][0])
    assert_same(full_hessian(network, classes(9, 3), loss="cross_entropy")[1], reference.hessian)
    asked = {"loss": "cross_entropy", "change": "sensitivity"}
    dw = reference.change("sensitivity")
    found = score_parameters(network, classes(9, 3), criterion="taylor1", **asked)
    assert_same(flat(found), dw * reference.gradient)
    found = score_parameters(network, classes(9, 3), criterion="loss_change", **asked)
    assert_same(flat(found), reference.loop(dw), rtol=1e-8)


CHANGES = pytest.mark.parametrize(
    ("change", "epsilon"), [("removal", 1.0), ("scaled", 0.3), ("sensitivity", 0.01)], ids=lambda value: str(value)
)


@ALL
@CHANGES
def test_taylor1_is_the_change_times_the_gradient(name: str, change: str, epsilon: float) -> None:
    reference = both(name)[1]
    expected = reference.change(change, epsilon) * reference.gradient
    assert_same(ask(name, "taylor1", change=change, epsilon=epsilon), expected)


@ALL
@CHANGES
def test_taylor2_adds_the_row_sum_of_the_hessian(name: str, change: str, epsilon: float) -> None:
    reference = both(name)[1]
    dw = reference.change(change, epsilon)
    for lam in (0.5, 1.0):
        expected = dw * (reference.gradient + lam * reference.hessian @ dw)
        assert_same(ask(name, "taylor2", change=change, epsilon=epsilon, lam=lam), expected)
    assert_same(ask(name, "hessian_row", change=change, epsilon=epsilon), dw * (reference.hessian @ dw))


@ALL
def test_taylor2_sums_to_the_second_order_change_of_the_loss(name: str) -> None:
    reference = both(name)[1]
    dw = -reference.w
    expected = reference.gradient @ dw + dw @ reference.hessian @ dw / 2
    assert_same(ask(name, "taylor2").sum(), expected)
    assert abs(ask(name, "taylor2", lam=1.0).sum() - expected) > 1e-3 * abs(expected)


@ALL
def test_the_row_sum_of_a_tensor_stays_inside_it(name: str) -> None:
    reference = both(name)[1]
    dw = -reference.w
    within = (reference.hessian * reference.blocks()) @ dw
    found = ask(name, "taylor2", row_sum="tensor")
    assert_same(found, dw * (reference.gradient + within / 2))
    assert not torch.allclose(found, ask(name, "taylor2"))
    assert_same(ask(name, "hessian_row", row_sum="tensor"), dw * within)


def test_the_row_sum_runs_over_what_is_scored_together() -> None:
    name = "mlp, cross-entropy"
    reference = both(name)[1]
    places = reference.places("0.weight", "2.weight")
    dw = -reference.w[places]
    expected = dw * (reference.gradient[places] + reference.hessian[places][:, places] @ dw / 2)
    assert_same(ask(name, "taylor2", parameters=["*.weight"]), expected)


@ALL
def test_hessian_is_half_the_diagonal(name: str) -> None:
    reference = both(name)[1]
    assert_same(ask(name, "hessian"), reference.w**2 * reference.hessian.diagonal() / 2)


def test_hutchinson_is_exact_where_the_hessian_is_diagonal() -> None:
    """One-hot inputs and no bias: weights that never meet."""
    model = nn.Linear(3, 2, bias=False).double()
    data = [(torch.eye(3).double()[torch.tensor([0, 1, 2, 1])], torch.randn(4, 2).double())]
    asked = {"loss": "squared_error", "change": "sensitivity"}
    found = score_parameters(model, data, criterion="hessian_estimate", probes=1, **asked)["weight"]
    assert_same(found, torch.tensor([[0.125, 0.25, 0.125]] * 2).double())
    assert_same(score_parameters(model, data, criterion="hessian", **asked)["weight"], found)


@pytest.mark.parametrize("name", ["mlp, cross-entropy", "conv, squared error"])
def test_hutchinson_is_unbiased_with_the_variance_that_it_states(name: str) -> None:
    reference, probes = both(name)[1], 800
    off = reference.hessian - torch.diag(reference.hessian.diagonal())
    deviation = (off.square().sum(1) / probes).sqrt()
    found = 2 * ask(name, "hessian_estimate", change="sensitivity", epsilon=1.0, probes=probes)
    normal = (found - reference.hessian.diagonal()) / deviation
    assert normal.abs().max() < 5
    assert 0.5 < normal.square().mean() < 1.6


def test_hutchinson_depends_on_its_seed_and_not_on_the_batches() -> None:
    name = "mlp, cross-entropy"
    found = ask(name, "hessian_estimate", probes=3, seed=1)
    assert_same(ask(name, "hessian_estimate", probes=3, seed=1, data=classes(9, 3, batch=2)), found)
    assert not torch.allclose(ask(name, "hessian_estimate", probes=3, seed=2), found)


# -- against plain loops ---------------------------------------------------------------------------------------------


@ALL
@CHANGES
def test_loss_change_is_a_plain_loop(name: str, change: str, epsilon: float) -> None:
    reference = both(name)[1]
    found = ask(name, "loss_change", change=change, epsilon=epsilon)
    assert_same(found, reference.loop(reference.change(change, epsilon)), rtol=1e-8)


def test_small_changes_are_what_the_derivatives_say() -> None:
    name = "conv, cross-entropy"
    asked = {"change": "sensitivity", "epsilon": 1e-4}
    change = ask(name, "loss_change", **asked)
    assert_same(ask(name, "taylor1", **asked) + ask(name, "hessian", **asked), change, rtol=1e-5)


def test_magnitude_is_the_absolute_value() -> None:
    name = "conv, cross-entropy"
    for change in ("removal", "scaled"):
        assert torch.equal(ask(name, "magnitude", change=change), both(name)[1].w.abs())


def test_random_is_uniform_and_seeded() -> None:
    name = "conv, cross-entropy"
    found = ask(name, "random", seed=3)
    assert torch.equal(found, ask(name, "random", seed=3))
    assert not torch.equal(found, ask(name, "random", seed=4))
    assert len(found.unique()) == len(found)
    assert 0 <= found.min() < 0.2 < 0.8 < found.max() < 1


def test_a_weight_of_zero_is_worth_nothing_to_what_changes_it_in_proportion() -> None:
    model = mlp(3, 4, 3)
    with torch.no_grad():
        model[0].weight[1, 2] = 0
    network = dh.trace(model, torch.ones(1, 3).double())
    for criterion in PARAMETER_CRITERIA:
        for change in ("removal", "sensitivity"):
            asked = {"loss": "cross_entropy", "criterion": criterion, "change": change, "probes": 2}
            found = score_parameters(network, classes(5, 3), **asked)
            assert (found["0.weight"][1, 2] == 0) == (criterion != "random")
            assert (found["0.weight"] == 0).sum() <= 1


# -- claims about all of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", PARAMETER_CRITERIA)
def test_absolute_takes_the_absolute_value_of_the_signed_score(criterion: str) -> None:
    name = "mlp, cross-entropy"
    signed = ask(name, criterion)
    assert torch.equal(ask(name, criterion, absolute=True), signed.abs())
    assert bool((signed < 0).any()) == (criterion not in ("magnitude", "random"))


@pytest.mark.parametrize("criterion", [each for each in PARAMETER_CRITERIA if each != "random"])
@pytest.mark.parametrize("name", ["mlp, cross-entropy", "attention"])
def test_scores_do_not_depend_on_how_rows_are_batched(criterion: str, name: str) -> None:
    inputs, targets = CASES[name].data[0]
    whole = ask(name, criterion, probes=4)
    for batch in (1, 2, 5):
        data = list(zip(inputs.split(batch), targets.split(batch), strict=True))
        assert_same(ask(name, criterion, data=data, probes=4), whole)


@pytest.mark.parametrize("criterion", [each for each in PARAMETER_CRITERIA if "estimate" not in each])
def test_tied_parameters_appear_once_under_their_first_name(criterion: str) -> None:
    network = both("tied")[0]
    asked = {"loss": "cross_entropy", "criterion": criterion, "row_sum": "tensor"}
    found = score_parameters(network, CASES["tied"].data, **asked)
    assert list(found) == ["first.weight", "first.bias"]
    by_second_name = score_parameters(network, CASES["tied"].data, parameters="second.*", **asked)
    assert list(by_second_name) == ["first.weight"]
    assert torch.equal(by_second_name["first.weight"], found["first.weight"])


class Halves(nn.Module):
    """Two heads, a parameter that nothing reads, and whole numbers: only the first head is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)
        self.unread = nn.Parameter(torch.ones(2))
        self.count = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x), self.right(x)


@pytest.mark.parametrize("criterion", [each for each in PARAMETER_CRITERIA if each not in ("magnitude", "random")])
def test_weights_that_the_loss_does_not_depend_on_score_zero(criterion: str) -> None:
    model = unit_gain(Halves().double())
    asked = {"loss": "cross_entropy", "criterion": criterion}
    found = score_parameters(model, classes(6, 3), **asked)
    assert list(found) == ["unread", "left.weight", "left.bias", "right.weight", "right.bias"]
    nonzero = {name for name, value in found.items() if value.any()}
    assert nonzero == {"left.weight", "left.bias"}
    alone = score_parameters(model, classes(6, 3), parameters=["right.*", "unread"], **asked)
    assert list(alone) == ["unread", "right.weight", "right.bias"]
    assert not any(value.any() for value in alone.values())


def test_a_hessian_without_curvature_is_zero() -> None:
    """A loss linear in outputs that are linear in the weights: gradients that do not depend on any weight."""
    model = nn.Linear(3, 1).double()
    data = [(torch.randn(4, 3).double(), torch.ones(4, 1).double())]

    def signed(outputs: Tensor, batch: Any) -> Tensor:
        return outputs[:, 0] * batch[1][:, 0]

    for criterion in ("hessian", "hessian_row", "hessian_estimate"):
        assert not flat(score_parameters(model, data, loss=signed, criterion=criterion)).any()
    assert not full_hessian(model, data, loss=signed)[1].any()
    found = score_parameters(model, data, loss=signed, criterion="taylor2")
    assert_same(found["weight"][0], -model.weight[0].detach() * data[0][0].mean(0))


def test_losses_of_torch_and_of_the_users_own_are_taken() -> None:
    model, data = mlp(3, 4, 3), classes(9, 3)

    def own(outputs: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(outputs, batch[1], reduction="none")

    expected = flat(score_parameters(model, data, loss="cross_entropy", criterion="taylor2"))
    for loss in (own, nn.CrossEntropyLoss()):
        assert_same(flat(score_parameters(model, data, loss=loss, criterion="taylor2")), expected)


def test_weights_laid_out_in_another_order_have_the_same_scores() -> None:
    data = classes(6, 2, 5, 5)
    model = unit_gain(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3)))
    other = unit_gain(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3)))
    other[0].to(memory_format=torch.channels_last)
    assert not other[0].weight.is_contiguous()
    networks = dh.trace(model, data[0][0]), dh.trace(other, data[0][0])
    for criterion in PARAMETER_CRITERIA:
        asked = {"loss": "cross_entropy", "criterion": criterion, "parameters": ["0.*"], "probes": 2}
        contiguous, channels_last = (flat(score_parameters(network, data, **asked)) for network in networks)
        assert_same(channels_last, contiguous)


def test_samples_limits_the_rows_that_are_read() -> None:
    name = "relu, several batches"
    (first, second), *_ = CASES[name].data
    assert_same(ask(name, "taylor2", samples=3), ask(name, "taylor2", data=[(first[:3], second[:3])]))


def test_float32_is_close_to_float64() -> None:
    wide, narrow = classes(9, 3), [(x.float(), y) for x, y in classes(9, 3)]
    networks = [(dh.trace(mlp(3, 4, 3).to(data[0][0].dtype), data[0][0]), data) for data in (wide, narrow)]
    for criterion in PARAMETER_CRITERIA:
        expected, found = (
            flat(score_parameters(network, data, loss="cross_entropy", criterion=criterion, probes=4))
            for network, data in networks
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        assert torch.equal(found, expected) == (criterion == "random")


@pytest.mark.parametrize("criterion", ["taylor1", "taylor2", "hessian", "hessian_estimate", "loss_change"])
def test_progress_runs_from_zero_to_the_end(criterion: str) -> None:
    seen: list[tuple[str, int, int]] = []
    ask("relu, several batches", criterion, probes=3, progress=lambda *event: seen.append(event))
    total = {"hessian": 3 * 31, "loss_change": 3 * 31, "hessian_estimate": 9}.get(criterion, 3)
    assert seen == [(criterion, done, total) for done in range(total + 1)]


def lived_in() -> nn.Sequential:
    """A model in train mode with a frozen parameter, hooks and gradients."""
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double().train()
    model[3].weight.requires_grad_(False)
    model[0].register_forward_hook(lambda module, args, output: None)
    model[0].weight.register_hook(lambda gradient: gradient * 2)
    x, y = classes(9, 3)[0]
    F.cross_entropy(model(x), y).backward()
    return model


@pytest.mark.parametrize("criterion", PARAMETER_CRITERIA)
def test_the_model_is_untouched_and_its_own_settings_do_not_matter(criterion: str, unharmed: Unharmed) -> None:
    model, data = lived_in(), classes(9, 3)
    fresh = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
    fresh.load_state_dict(model.state_dict())
    with unharmed(model, *data[0]):
        found = score_parameters(model, data, loss="cross_entropy", criterion=criterion)
    expected = score_parameters(fresh, data, loss="cross_entropy", criterion=criterion)
    assert list(found) == list(expected)
    assert_same(flat(found), flat(expected))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("criterion", ["taylor1", "taylor2", "hessian", "loss_change"])
def test_scores_are_the_same_where_gradients_are_off(criterion: str, mode: Callable[[], Any]) -> None:
    expected = ask("mlp, cross-entropy", criterion)
    with mode():
        made = mlp(3, 4, 3).requires_grad_(False)
        found = score_parameters(made, classes(9, 3), loss="cross_entropy", criterion=criterion)
    assert_same(flat(found), expected)


def test_an_interrupt_leaves_everything_as_it_was(unharmed: Unharmed) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    for criterion in ("hessian", "loss_change", "hessian_estimate"):
        model = lived_in()
        with unharmed(model), pytest.raises(KeyboardInterrupt):
            score_parameters(model, classes(9, 3), loss="cross_entropy", criterion=criterion, progress=stop)


@settings(max_examples=6, deadline=None)
@given(
    epsilon=st.floats(0.1, 10),
    lam=st.floats(-2, 2),
    change=st.sampled_from(["scaled", "sensitivity"]),
    row_sum=st.sampled_from(["all", "tensor"]),
)
def test_first_order_is_linear_in_epsilon_and_second_order_quadratic(
    epsilon: float, lam: float, change: str, row_sum: str
) -> None:
    name = "mlp, cross-entropy"
    asked: dict[str, Any] = {"change": change, "row_sum": row_sum}
    first, row, diagonal = (ask(name, each, **asked) for each in ("taylor1", "hessian_row", "hessian"))
    asked["epsilon"] = epsilon
    assert_same(ask(name, "taylor1", **asked), epsilon * first)
    assert_same(ask(name, "hessian", **asked), epsilon**2 * diagonal)
    scale = float((epsilon * first).abs().max() + (epsilon**2 * row).abs().max())
    torch.testing.assert_close(
        ask(name, "taylor2", lam=lam, **asked), epsilon * first + lam * epsilon**2 * row, rtol=1e-9, atol=1e-12 * scale
    )


# -- refusals --------------------------------------------------------------------------------------------------------


def without_second(outputs: Tensor, batch: Any) -> Tensor:
    return torch.cdist(outputs[:, None], torch.ones_like(outputs)[:, None]).flatten()


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return 2 * value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def once(outputs: Tensor, batch: Any) -> Tensor:
    return Once.apply(outputs).square().sum(1)


def detached(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.detach().square().sum(1)


def whole_numbers(outputs: Tensor, batch: Any) -> Tensor:
    return (outputs.argmax(1) != batch[1]).double()


def one_number(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.sum()


def fails(outputs: Tensor, batch: Any) -> Tensor:
    raise RuntimeError("the user's own reason")


INPUTS, TARGETS = classes(9, 3)[0]
REFUSALS: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "criterion": (dh.DataError, "no criterion 'mrs' of parameters; the criteria are taylor1", {"criterion": "mrs"}),
    "change": (dh.DataError, "no change 'grow' of weights; the changes are removal, scaled", {"change": "grow"}),
    "row_sum": (dh.DataError, "no row_sum 'layer'; .* all or tensor", {"row_sum": "layer"}),
    "epsilon of zero": (dh.DataError, r"epsilon=0.* positive", {"change": "scaled", "epsilon": 0.0}),
    "epsilon that is negative": (dh.DataError, r"epsilon=-1.* positive", {"change": "scaled", "epsilon": -1.0}),
    "epsilon that is no number": (dh.DataError, r"epsilon=nan.* positive", {"epsilon": float("nan")}),
    "epsilon of a removal": (dh.DataError, 'epsilon=0.1 says nothing about removal.*"scaled"', {"epsilon": 0.1}),
    "lam": (dh.DataError, "lam=inf must be a finite", {"lam": float("inf")}),
    "probes": (dh.DataError, "probes=0 asks for no probe.*at least 1", {"probes": 0}),
    "a pattern": (dh.DataError, "'conv' matches no floating.*Sequential.*0.weight", {"parameters": ["*", "conv"]}),
    "no pattern": (dh.DataError, "names no parameter.*None for all", {"parameters": ()}),
    "no data": (dh.DataError, "no rows", {"data": []}),
    "a bare tensor": (dh.DataError, "put one batch into a list", {"data": torch.ones(3, 3)}),
    "a loss by name": (dh.LossError, "no loss 'best'", {"loss": "best"}),
    "a loss that is one number": (dh.LossError, "per sample", {"loss": one_number}),
    "a detached loss": (dh.LossError, "detached has no derivative.*loss_change or magnitude", {"loss": detached}),
    "a detached loss, twice": (dh.LossError, "no derivative", {"loss": detached, "criterion": "taylor2"}),
    "a loss of whole numbers": (dh.LossError, "whole_numbers has no derivative", {"loss": whole_numbers}),
    "no second derivative": (
        dh.DataError, "second derivative of _cdist_backward.*taylor1", {"loss": without_second, "criterion": "taylor2"}
    ),
    "no second derivative of the diagonal": (
        dh.DataError, "second derivative of _cdist_backward", {"loss": without_second, "criterion": "hessian"}
    ),
    "no second derivative of the estimate": (
        dh.DataError, "second derivative of _cdist_backward", {"loss": without_second, "criterion": "hessian_estimate"}
    ),
    "a function differentiable once": (
        dh.DataError, "marked once_differentiable.*taylor1", {"loss": once, "criterion": "taylor2"}
    ),
    "an error of the user's own": (RuntimeError, "the user's own reason", {"loss": fails, "criterion": "taylor2"}),
    "targets that are no classes": (dh.LossError, "class 3", {"data": [(INPUTS, TARGETS + 1)]}),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_is_one_sentence_and_leaves_everything_as_it_was(what: str, unharmed: Unharmed) -> None:
    kind, words, options = REFUSALS[what]
    model = lived_in()
    asked = {"data": classes(9, 3), "loss": "cross_entropy", **options}
    with unharmed(model), pytest.raises(kind, match=words) as caught:
        score_parameters(model, asked.pop("data"), **asked)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("loss", [without_second, once])
def test_first_order_does_without_the_second(loss: Callable[[Tensor, Any], Tensor]) -> None:
    for criterion in ("taylor1", "loss_change", "magnitude"):
        assert flat(score_parameters(mlp(3, 4, 3), classes(9, 3), loss=loss, criterion=criterion)).any()


def test_losses_without_a_derivative_have_changes() -> None:
    found = score_parameters(mlp(3, 4, 3), classes(40, 3), loss=whole_numbers, criterion="loss_change")
    assert flat(found).any()


def test_too_many_weights_are_refused_with_what_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "EXACT_UP_TO", 30)
    monkeypatch.setattr(hessian, "DENSE_UP_TO", 30)
    network, data = both("mlp, cross-entropy")[0], CASES["mlp, cross-entropy"].data
    with pytest.raises(dh.DataError, match=r"each of 31 weights, and 30 is.*parameters=.*hessian_estimate"):
        score_parameters(network, data, loss="cross_entropy", criterion="hessian")
    with pytest.raises(dh.DataError, match=r"full Hessian of 31 weights.*30 is the limit.*taylor2"):
        full_hessian(network, data, loss="cross_entropy")
    score_parameters(network, data, loss="cross_entropy", criterion="hessian", parameters="*.weight")
    full_hessian(network, data, loss="cross_entropy", parameters="*.weight")
    score_parameters(network, data, loss="cross_entropy", criterion="hessian_estimate")


@pytest.mark.parametrize("criterion", ["magnitude", "taylor1", "loss_change"])
def test_weights_that_are_not_finite_are_refused(criterion: str) -> None:
    model = mlp(3, 4, 3)
    with torch.no_grad():
        model[0].weight[1, 1] = float("nan")
    with pytest.raises(dh.DeadheadError, match="finite"):
        score_parameters(model, classes(9, 3), loss="cross_entropy", criterion=criterion)


def test_a_full_hessian_is_refused_like_a_score(unharmed: Unharmed) -> None:
    model = lived_in()
    for kind, words, loss in (
        (dh.DataError, "_cdist_backward", without_second),
        (dh.LossError, "no derivative", detached),
        (dh.LossError, "no loss 'best'", "best"),
    ):
        with unharmed(model), pytest.raises(kind, match=words):
            full_hessian(model, classes(9, 3), loss=loss)
