"""What holds for every score of single weights, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadhead as dh
from deadhead.scores.single_weights import hessian, parameters
from deadhead.scores.single_weights.hessian import full_hessian
from deadhead.scores.single_weights.parameters import PARAMETER_CRITERIA, score_parameters
from support.networks import classes, mlp, unit_gain
from support.snapshot import Unharmed
from support.weights import (
    CASES,
    ask,
    assert_same,
    both,
    flat,
)

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
    "epsilon of a removal": (dh.DataError, 'epsilon=0.1 has no effect on removal.*"scaled"', {"epsilon": 0.1}),
    "lam": (dh.DataError, "lam=inf must be a finite", {"lam": float("inf")}),
    "probes": (dh.DataError, "probes=0 must be at least 1", {"probes": 0}),
    "a pattern": (dh.DataError, "'conv' matches no floating.*Sequential.*0.weight", {"parameters": ["*", "conv"]}),
    "no pattern": (dh.DataError, "names no parameter.*None for all", {"parameters": ()}),
    "no data": (dh.DataError, "no samples", {"data": []}),
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
