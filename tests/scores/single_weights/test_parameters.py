"""Saliencies of single weights against dense autograd and plain loops on the user's own module, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import deadhead as dh
from deadhead.scores.single_weights.hessian import full_hessian
from deadhead.scores.single_weights.parameters import PARAMETER_CRITERIA, score_parameters
from support.networks import classes, mlp
from support.weights import (
    ALL,
    CASES,
    Normed,
    Reference,
    ask,
    assert_same,
    both,
    flat,
)

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
