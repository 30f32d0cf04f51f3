"""Saliencies of units through training: what the loss is when a part of a layer's units is replaced by constants."""

from __future__ import annotations

import copy
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadhead.gates.batched import Parts
from deadhead.graph.network import Network, trace
from deadhead.lab.data import Split, load
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.unit_saliencies.claims import CLAIMS, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.unit_saliencies.figures import PICTURES
from deadhead.lab.experiments.unit_saliencies.numbers import numbers
from deadhead.lab.lazily import stats
from deadhead.lab.measures.replaced import Replaced
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import UNITS, batched
from deadhead.lab.networks.side_by_side import SideBySide
from deadhead.lab.train import evaluate
from deadhead.progress import Progress, track
from deadhead.pruning.prune import prune
from deadhead.scores.criterion import ask
from deadhead.select.brute_force.oracle import oracle

NETS = ("relu", "tanh")
CRITERIA = ("mrp", "mrs", "l1", "l2", "random")
"""Those of Evci (2018), table 4.1."""


@dataclass(frozen=True)
class UnitSaliencies:
    """Settings: those of Evci (2018), section 4.1; the last two of the factors are choices, as its figures name four.

    Args:
        epochs: passes over the training images.
        learning_rate: of gradient descent without momentum or weight decay.
        batch_size: of training.
        every: steps between measurements.
        first: measurements between those of conv1.
        other: measurements between those of other constants, other sites and test images, a multiple of `first`.
        samples: training images on which scores and losses are measured, and as many test images.
        factors: fractions of the units of conv2 and fc1 that are replaced; of conv1 half is.
        draws: random halves of fc1; otherwise one random set is drawn each time.
        late: the step after which norms are said to diverge.
        images: training images in all.
        tested: test images.
        races: whether units are also chosen by oracle and optimal brain surgeon at the end.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    batch_size: int = 32
    every: int = 100
    first: int = 5
    other: int = 10
    samples: int = 1000
    factors: tuple[float, ...] = (0.1, 0.2, 0.4, 0.5, 0.6, 0.8)
    draws: int = 10
    late: int = 5000
    images: int = 60000
    tested: int = 10000
    races: bool = True


QUICK = {
    "epochs": 2, "learning_rate": 0.1, "every": 20, "first": 1, "other": 2, "samples": 60, "draws": 3, "late": 40,
    "images": 1000, "tested": 300, "races": False,
}  # fmt: skip


@experiment(
    "unit_saliencies",
    UnitSaliencies,
    claims=CLAIMS,
    pictures=PICTURES,
    quick=QUICK,
    takeaway=TAKEAWAY,
    variants=VARIANTS,
)
def unit_saliencies(settings: UnitSaliencies, seed: int, progress: Progress | None) -> dict[str, Any]:
    """By how much the loss rises through training when part of a layer's units is replaced, chosen by five saliencies.

    The CNN of 8-16-64 units trains on MNIST, with ReLU and with Tanh. Every hundred steps the units of conv2 and fc1
    (those of conv1, whose maps are most of the work, at every fifth of these steps) are scored by mean replacement
    penalty and saliency (before pool and nonlinearity), L1 and L2 norm of their weights, and chance; those that score
    lowest are replaced by their mean, and the network trains on as if nothing had been. At every tenth of these steps
    the same units are also replaced by other constants, after the nonlinearity, and by zero, and the loss is measured
    on test images too.

    Args:
        settings: see `UnitSaliencies`.
        seed: of start, order and random choices.
        progress: called after each step.

    Returns:
        Numbers that the claims are judged by, and rises of the loss through training.

    Source: Evci (2018), section 4.1 and appendix E.
    """
    s, data = settings, load("mnist", progress=progress)
    data = replace(data, test_inputs=data.test_inputs[: s.tested], test_targets=data.test_targets[: s.tested])
    inputs, targets = data.train_inputs[: s.images], data.train_targets[: s.images]
    rows = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed + 1))[: s.samples]
    sample = inputs[rows], targets[rows]
    models = {name: small_cnn(name, seed=seed) for name in NETS}
    stack = SideBySide(list(models.values()), s.learning_rate)
    nets = {name: Measured(model, sample, data, s, seed) for name, model in models.items()}
    draw = torch.Generator().manual_seed(seed)
    orders = (torch.randperm(len(inputs), generator=draw) for _ in range(s.epochs))
    batches = (batch for rows in orders for batch in torch.split(rows, s.batch_size))
    total = s.epochs * math.ceil(len(inputs) / s.batch_size)
    for step, batch in enumerate(track(progress, "training", batches, total), 1):
        stack.step(inputs[batch], targets[batch])
        if step % s.every == 0:
            for net in nets.values():
                net.measure(step)
    found = {name: net.seen for name, net in nets.items()}
    ends = {name: _end(model, inputs, targets, data) for name, model in models.items()}
    result = numbers({name: {k: np.array(v) for k, v in each.items()} for name, each in found.items()}, ends, s)
    jobs = track(progress, "choosing by other means", list(models.items() if s.races else ()))
    compensated = {name: _compensated(model, sample, data, s, seed) for name, model in jobs}
    for name in NETS:
        for key, way in (("mean", "mrp, mean"), ("refitted", "mrp, least squares"), ("obs", "obs, Gauss-Newton")):
            result[f"{name}_half_{key}"] = compensated[name][way]["rise"] if s.races else None
    return result | {"compensated": compensated}


class Measured:
    """One network and what was measured of it, {name: values, one entry for each measurement}.

    Args:
        model: the network, which trains elsewhere.
        sample: training images and classes to measure on.
        data: with test images.
        s: settings.
        seed: of random choices.
    """

    def __init__(
        self, model: nn.Module, sample: tuple[Tensor, Tensor], data: Split, s: UnitSaliencies, seed: int
    ) -> None:
        self.s, self.sample = s, sample
        self.held_out = data.test_inputs[: s.samples], data.test_targets[: s.samples]
        self.network: Network = trace(model, sample[0])
        self.parts = Parts(self.network)
        self.draw = torch.Generator().manual_seed(seed + 2)
        self.seen: dict[str, list[Any]] = defaultdict(list)

    def measure(self, step: int) -> None:
        """Score, replace, measure; the model is as before."""
        layers = [layer for layer in UNITS if layer != "conv1" or step % (self.s.every * self.s.first) == 0]
        replaced = Replaced(self.network, *self.sample, parts=self.parts, layers=layers)
        scores = self._scores(replaced, layers)
        self.seen["step"].append(step)
        for layer in layers:
            size = UNITS[layer]
            counts = [size // 2] if layer == "conv1" else [math.floor(f * size + 1e-9) for f in self.s.factors]
            sets = [lowest(scores[each][layer], count) for each in CRITERIA[:-1] for count in counts]
            extra = self.s.draws - 1 if layer == "fc1" else 0
            drawn = [torch.randperm(size, generator=self.draw)[:count] for count in [*counts, *[size // 2] * extra]]
            rises = replaced.rise(layer, [*sets, *drawn]).numpy()
            rise = rises[: 5 * len(counts)].reshape(5, -1)  # (criteria, factors)
            if extra and 0.5 in self.s.factors:
                halves = rises[5 * len(counts) :]
                rise[4, self.s.factors.index(0.5)] = (rise[4, self.s.factors.index(0.5)] + halves.sum()) / self.s.draws
            self.seen[f"{layer} rise"].append(rise)
            self._compare(layer, scores, sets)
            if step % (self.s.every * self.s.other) == 0:
                self._otherwise(layer, sets[: len(counts)], counts, rise)

    def _scores(self, replaced: Replaced, layers: Sequence[str]) -> dict[str, Mapping[str, Tensor]]:
        question = replaced.question
        return {
            "mrp": {layer: replaced.penalties(layer) for layer in layers},
            "mrs": ask(question, "mrs"),
            "l1": ask(question, "magnitude", norm=1.0),
            "l2": ask(question, "magnitude"),
        }

    def _compare(self, layer: str, scores: Mapping[str, Mapping[str, Tensor]], sets: Sequence[Tensor]) -> None:
        """How alike scores are: common units, rank correlations, the error of the saliency against the penalty."""
        mrp, mrs, l1 = (scores[each][layer].numpy() for each in ("mrp", "mrs", "l1"))
        error = np.abs(mrs - mrp) / np.maximum(mrp, 1e-12)
        self.seen[f"{layer} error rho"].append(_rho(mrp, error))
        self.seen[f"{layer} norm rho"].append(_rho(mrp, l1))
        self.seen[f"{layer} mrs rho"].append(_rho(mrp, mrs))
        if layer == "conv1":
            pairs = itertools.combinations([set(each.tolist()) for each in sets], 2)
            self.seen["overlaps"].append([len(one & other) for one, other in pairs])

    def _otherwise(self, layer: str, by_mrp: Sequence[Tensor], counts: Sequence[int], rise: Any) -> None:
        """The units of lowest penalty, replaced otherwise; and on images that no choice saw."""
        after = Replaced(self.network, *self.sample, parts=self.parts, site="consumer", layers=[layer])
        zero = Replaced(self.network, *self.sample, parts=self.parts, site="consumer", reference="zero", layers=[layer])
        # the test images' own means stand in for those of the sample: they differ by a few per cent of a deviation
        held = Replaced(self.network, *self.held_out, parts=self.parts, layers=[layer])
        self.seen[f"{layer} mean before"].append(rise[0])
        self.seen[f"{layer} mean after"].append(after.rise(layer, by_mrp).numpy())
        self.seen[f"{layer} zero"].append(zero.rise(layer, by_mrp).numpy())
        self.seen[f"{layer} held out"].append(held.rise(layer, by_mrp).numpy())
        if layer != "fc1":
            return
        for constant in ("median", "min", "max"):
            other = Replaced(self.network, *self.sample, parts=self.parts, reference=constant, layers=[layer])
            own = other.penalties(layer)
            self.seen[f"fc1 {constant}"].append(other.rise(layer, [lowest(own, count) for count in counts]).numpy())


def lowest(scores: Tensor, count: int) -> Tensor:
    """The units of lowest score, (count,)."""
    return scores.argsort(stable=True)[:count]


def _rho(one: Any, other: Any) -> float:
    found = float(stats.spearmanr(one, other).statistic)
    return 0.0 if math.isnan(found) else found


def _end(model: nn.Module, inputs: Tensor, targets: Tensor, data: Split) -> dict[str, float]:
    test_loss, accuracy = evaluate(model, data.test_inputs, data.test_targets)
    return {"accuracy": 100 * accuracy, "train_loss": evaluate(model, inputs, targets)[0], "test_loss": test_loss}


def _compensated(
    model: nn.Module, sample: tuple[Tensor, Tensor], data: Split, s: UnitSaliencies, seed: int
) -> dict[str, dict[str, float]]:
    """Rise of the test loss when half of fc1 is cut at the end, by how units are chosen and what makes up for them."""
    known, net, half = batched(*sample), copy.deepcopy(model), UNITS["fc1"] // 2
    before = evaluate(net, data.test_inputs, data.test_targets)[0]
    common: dict[str, Any] = {"loss": "cross_entropy", "only": ["fc1"], "samples": s.samples, "seed": seed, "curve": 0}
    race = oracle(net, known, loss="cross_entropy", remove=half, exact=False, only=["fc1"], seed=seed)
    ways: dict[str, dict[str, Any]] = {
        "mrp, mean": {"units": half, "criterion": "mrp", "compensate": "mean"},
        "mrs, mean": {"units": half, "criterion": "mrs", "compensate": "mean"},
        "magnitude, mean": {"units": half, "criterion": "magnitude", "compensate": "mean"},
        "mrp, least squares": {"units": half, "criterion": "mrp", "compensate": "least_squares"},
        "race, zero": {"plan": race.plan(half), "compensate": "zero"},
        "race, least squares": {"plan": race.plan(half), "compensate": "least_squares"},
        "obs, least squares": {"units": half, "criterion": "obs", "compensate": "least_squares"},
        "obs, Gauss-Newton": {"units": half, "criterion": "obs", "compensate": "gauss_newton"},
        "random, mean": {"units": half, "criterion": "random", "compensate": "mean"},
    }
    found = {}
    for name, options in ways.items():
        smaller = prune(net, known, **common, **options).model
        loss, accuracy = evaluate(smaller, data.test_inputs, data.test_targets)
        found[name] = {"rise": round(loss - before, 5), "accuracy": round(100 * accuracy, 3)}
    return found
