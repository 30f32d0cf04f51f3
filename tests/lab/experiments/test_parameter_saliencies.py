"""Saliencies of single weights: groups and the surgeon against plain loops, and what holds at quick size."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from deadhead.lab.experiments.parameter_saliencies.experiment import summary
from deadhead.lab.measures.layer_without import ABSOLUTE, LAYER, SCORES, loss_after_surgery, loss_without, patches_of
from deadhead.lab.measures.weight_surgeon import gram_of, removed_by_surgeon
from deadhead.lab.networks.mnist_cnn import network
from support.data import needs_data
from support.lab import drawn_all, quick


def refitted(columns: torch.Tensor, target: torch.Tensor, kept: list[int]) -> tuple[float, torch.Tensor]:
    """The squared error of the best fit by some columns and a constant, and the fit."""
    whole = torch.cat([columns[:, kept], torch.ones(len(columns), 1).double()], 1)
    fit = torch.linalg.lstsq(whole, target[:, None]).solution
    return float((whole @ fit - target[:, None]).square().mean()), fit[:, 0]


def test_the_surgeon_refits_what_remains_by_least_squares() -> None:
    torch.manual_seed(0)
    columns = torch.randn(200, 4).double() @ torch.randn(4, 4).double() + 1
    weight, bias = torch.randn(1, 4).double(), torch.randn(1).double()
    found, constant = removed_by_surgeon(weight, bias, gram_of(columns, 1e-12), 2)
    kept = found[0].nonzero()[:, 0].tolist()
    assert len(kept) == 2
    _, fit = refitted(columns, columns @ weight[0] + bias, kept)
    torch.testing.assert_close(torch.cat([found[0, kept], constant]), fit, rtol=1e-6, atol=1e-9)
    one, _ = removed_by_surgeon(weight, bias, gram_of(columns, 1e-12), 1)
    errors = {pair: refitted(columns, columns @ weight[0] + bias, list(pair))[0] for pair in combinations(range(4), 3)}
    assert tuple(one[0].nonzero()[:, 0].tolist()) == min(errors, key=lambda pair: errors[pair])


def test_the_surgeon_weighs_rows() -> None:
    columns, weight = torch.eye(3).repeat(5, 1), torch.tensor([[1.0, 2.0, 3.0], [0.9, 2.0, 3.0]])
    for importance, row in ((torch.tensor([1.0, 1.0]), 1), (torch.tensor([1.0, 9.0]), 0)):
        found, _ = removed_by_surgeon(weight, torch.zeros(2), gram_of(columns, 1e-3), 1, importance)
        assert (found == 0).nonzero().tolist() == [[row, 0]]


def test_a_layer_without_weights_is_measured_and_put_back() -> None:
    torch.manual_seed(0)
    net, reads = network(0), [(torch.rand(9, 1, 28, 28), torch.randint(10, (9,))) for _ in range(2)]
    before = [each.detach().clone() for each in net.parameters()]
    found = loss_without(net, [3, 77], reads)
    after_surgery = loss_after_surgery(net, 160, patches_of(net, reads), reads, reads)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    with torch.no_grad():
        net.get_parameter(LAYER)[0, 0, 0, 3] = 0
        net.get_parameter(LAYER)[3, 0, 0, 2] = 0
        expected = sum(torch.nn.functional.cross_entropy(net(x), y) for x, y in reads) / 2
    assert found == pytest.approx(float(expected), abs=1e-6)
    assert after_surgery != found


def test_claims_read_the_checkpoints_that_they_name() -> None:
    """A change of sign after step 1,000, an interaction that grows, and absolute scores that are better by 2."""
    records = []
    for step in range(100, 2100, 100):
        late, zero = step > 1000, dict.fromkeys((*SCORES, *ABSOLUTE, "magnitude", "random"), 0.0)
        most = {**zero, **dict.fromkeys(SCORES, 3.0), **dict.fromkeys(ABSOLUTE, 1.0 + 0.1 * (step % 200 > 0))}
        some = {**zero, "loss_change": 0.5 if late else -0.5, "taylor1": 2.0 if late else -0.4}
        records.append({
            "step": step, "changes": {"0.01": {**zero, "loss_change": -1.0}, "0.05": some, "0.8": most},
            "held_out": {"0.01": 0.0, "0.05": 0.0}, "negative": dict.fromkeys(SCORES, 0.2 + step / 1e4),
            "interactions": {"loss_change": step / 1e3, "loss_change, absolute": 0.0},
        })  # fmt: skip
    found = summary(records, "tanh")
    assert (found["tanh_change_by_10_before"], found["tanh_change_by_10_after"]) == (-0.5, 0.5)
    assert found["tanh_improved_by_2"] == 1
    assert found["tanh_interaction_growth"] == pytest.approx(1)
    assert found["tanh_gap_growth_taylor1"] == pytest.approx(1.5 - 0.1)
    assert found["tanh_absolute_less_raw_taylor2"] == pytest.approx(-2 + 0.05)
    assert found["tanh_magnitude_less_taylor2"] == pytest.approx(-1.05)
    assert min(found["tanh_spread_over_magnitude"]) > 1
    assert found["tanh_negative_last_less_first"] == pytest.approx(np.mean([0.17, 0.18, 0.19, 0.2]) - 0.025)


@needs_data
def test_a_quick_run_scores_every_weight_and_draws_every_figure() -> None:
    found = quick("parameter_saliencies")
    assert found["relu"]["steps"] == [10, 20, 30]
    assert sorted(found["ranks"]["loss_change"]) == list(range(200))
    assert found["rho"]["taylor1"] > 0.5 > abs(found["rho"]["random"])
    drawn_all("parameter_saliencies")
