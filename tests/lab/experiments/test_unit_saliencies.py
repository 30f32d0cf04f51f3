"""The experiment `unit_saliencies`: its numbers from planted measurements, and what holds at quick size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deadhead.lab.data import Split
from deadhead.lab.experiments.unit_saliencies.claims import CLAIMS
from deadhead.lab.experiments.unit_saliencies.experiment import Measured, UnitSaliencies, lowest
from deadhead.lab.experiments.unit_saliencies.numbers import numbers
from deadhead.lab.models import small_cnn
from support.data import needs_data
from support.lab import drawn_all, quick

SETTINGS = UnitSaliencies()
ENDS = {net: {"accuracy": 98.8, "train_loss": 0.046, "test_loss": 0.04} for net in ("relu", "tanh")}


def planted(rises: Any, seed: int) -> dict[str, Any]:
    """Measurements of one network whose rises are of this size, (criteria,), times the factor, with noise."""
    draw = np.random.default_rng(seed)
    steps = np.arange(100, 18800, 100)
    shape = np.array(rises)[:, None] * np.array(SETTINGS.factors)  # (criteria, factors)
    found: dict[str, Any] = {"step": steps, "overlaps": np.full((37, 6), 4.0)}
    for layer in ("conv1", "conv2", "fc1"):
        rise = shape[:, 3:4] if layer == "conv1" else shape
        count = 37 if layer == "conv1" else len(steps)
        found[f"{layer} rise"] = rise * draw.uniform(0.95, 1.05, (count, *rise.shape))
        found |= {f"{layer} {kind} rho": np.full(count, 0.5) for kind in ("error", "norm", "mrs")}
        for kind in ("mean before", "mean after", "zero", "held out", "median", "min", "max"):
            found[f"{layer} {kind}"] = np.ones((18, rise.shape[1])) * (2.0 if kind == "zero" else 1.0)
    return found


def verdicts(relu: Any, tanh: Any) -> dict[str, str]:
    nets = [{"relu": planted(relu, seed), "tanh": planted(tanh, seed + 50)} for seed in range(5)]
    results = [numbers(each, ENDS, SETTINGS) for each in nets]
    return {claim.id: claim.judge(results).verdict for claim in CLAIMS}


def test_planted_orders_come_out_as_planted() -> None:
    good = verdicts((0.1, 0.2, 0.4, 0.4, 20.0), (0.5, 0.5, 0.6, 0.6, 0.55))
    bad = verdicts((0.4, 0.4, 0.1, 0.2, 0.4), (0.05, 0.05, 0.06, 0.06, 5.0))
    assert good["E6.3"] == good["E6.5"] == good["E6.10"] == good["E7.1"] == "holds"
    assert bad["E6.3"] == bad["E6.5"] == bad["E6.10"] == "does not hold"
    assert good["E6.8"] == "holds"
    assert bad["E6.8"] == "does not hold"
    assert good["E6.9"] == "holds in part"
    assert bad["E6.9"] == "does not hold"
    assert good["E6.4"] == "holds in part"
    assert bad["E6.4"] != "holds"
    assert good["E6.11"] == good["E6.12"] == "does not hold"  # as good as the mean is not better


def test_one_constant_that_is_better_suffices() -> None:
    judge = next(claim.judge for claim in CLAIMS if claim.id == "E6.11")
    worse = {f"tanh_{constant}_less_mean": 0.5 for constant in ("median", "min", "max")}
    results = [{**worse, "tanh_max_less_mean": x} for x in (-0.1, -0.12, -0.09, -0.1, -0.11)]
    assert judge(results).verdict == "holds"
    assert judge([worse] * 5).verdict == "does not hold"


def test_measuring_leaves_the_network_as_it_was_and_ties_go_to_the_first_unit() -> None:
    draw = torch.Generator().manual_seed(0)
    images, classes = torch.rand(30, 1, 28, 28, generator=draw), torch.arange(30) % 10
    data = Split("planted", images, classes, images, classes, tuple("0123456789"))
    model = small_cnn("tanh", seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    s = replace(SETTINGS, every=1, first=1, other=1, draws=2, samples=30)
    measured = Measured(model, (images, classes), data, s, seed=0)
    measured.measure(1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert measured.seen["fc1 rise"][0].shape == (5, 6)
    assert {"fc1 median", "conv1 zero", "conv2 mean after", "overlaps"} <= set(measured.seen)
    assert lowest(torch.tensor([1.0, 0.0, 0.0, 2.0]), 2).tolist() == [1, 2]


@needs_data
def test_the_quick_run_finds_that_penalties_choose_better_than_chance() -> None:
    found = quick("unit_saliencies")
    assert found["tanh_accuracy"] > 40
    assert found["best_over_random"] < 1
    assert found["best_over_random_relu"] < 1
    assert min(found["mrs_rho"]) > 0.8
    assert found["random_ratio_median"] > 1


@needs_data
def test_its_figures_draw() -> None:
    drawn_all("unit_saliencies")
