"""Saliencies of single weights through training: what each predicts, and what removing by it does to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadhead.graph.network import Network, trace
from deadhead.lab.experiments.parameter_saliencies.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.parameter_saliencies.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.lazily import stats
from deadhead.lab.measures.layer_without import (
    ABSOLUTE,
    LAYER,
    SCORES,
    Net,
    end_of_training,
    greedy,
    loss_after_surgery,
    loss_without,
    patches_of,
    rounded,
    run_times,
)  # fmt: skip
from deadhead.lab.networks.mnist_cnn import Pairs, Parts, network, parts
from deadhead.lab.train import fit
from deadhead.progress import Progress
from deadhead.scores import score_parameters

Records = list[dict[str, Any]]
READ = 125
"""Images of a batch that is scored: what a weight moves in more does not fit into a core's cache."""


@dataclass(frozen=True)
class Settings:
    """Settings; Evci (2018), section 2.1, has the rates, epochs and images.

    Args:
        epochs: passes over the training images.
        batch_size: of a step.
        learning_rate: of plain SGD.
        every: steps between two checkpoints, up to `until`; then `later`. The thesis has 50 throughout: loss changes
            of 200 weights at every checkpoint are what the experiment costs, so that later ones are a quarter as many.
        until: the last step with the smaller distance; the thesis sees a change of sign at about 1,000 steps.
        later: steps between two checkpoints after that.
        validation: training images held out, on which scores and loss changes are taken.
        images: of each part at most; 0 is all.
        few: fraction of the layer's weights of figures 2.2a and 2.3a.
        some: fraction of figures 2.2b and 2.3b.
        most: fraction of figure 2.5.
        rounds: of removing two weights and scoring anew, at the end, which the thesis leaves open.
        repeats: measurements of each run time, in turn; medians are kept.
        widths: factors of the numbers of units of the networks that are timed.
    """

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.01
    every: int = 50
    until: int = 1000
    later: int = 200
    validation: int = 1000
    images: int = 0
    few: float = 0.01
    some: float = 0.05
    most: float = 0.8
    rounds: int = 8
    repeats: int = 3
    widths: tuple[int, ...] = (1, 4)


QUICK = {"epochs": 1, "images": 500, "batch_size": 16, "learning_rate": 0.1, "every": 10, "until": 20, "later": 10,
         "validation": 60, "rounds": 2, "repeats": 1, "widths": (1,)}  # fmt: skip


@experiment(
    "parameter_saliencies", Settings, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY
)  # fmt: skip
def parameter_saliencies(settings: Settings, seed: int, progress: Progress | None) -> dict[str, Any]:
    """The 200 weights of a small CNN's first convolution on MNIST, scored at checkpoints through training by the loss
    change, Taylor expansions and magnitude; fractions of them removed, the loss measured, and the weights put back.

    Scores are of removal, dw = -w; lambda of taylor2 is 1 as in table 2.1, and 1/2 beside; the Hessian's rows are
    summed over the layer's weights.
    """
    data, found = parts(settings.validation, settings.images), dict[str, Any]()
    for activation in ("relu", "tanh"):
        traced, records, reads, held = through_training(settings, data, activation, seed, progress)
        found[activation] = curves(records)
        found |= summary(records, activation)
        if activation == "relu":
            found |= end_of_training(scores(traced, reads, seed))
            found["greedy"] = greedy(traced, settings.rounds, reads, held, progress)
    found |= run_times(settings.widths, settings.repeats, seed, reads, progress)
    return found


def through_training(
    s: Settings, data: Parts, activation: str, seed: int, progress: Progress | None = None
) -> tuple[Network, Records, Pairs, Pairs]:
    """Train a network and measure at every checkpoint.

    Args:
        s: settings.
        data: the parts of MNIST.
        activation: of the network.
        seed: of the start, of the order of samples, and of random scores.
        progress: called after each step.

    Returns:
        The trained network, traced, a record for each checkpoint, the images that are scored, and as many test images.
    """
    reads = list(zip(*(torch.split(each, READ) for each in data.validation), strict=True))
    held = list(zip(*(torch.split(each[: s.validation], READ) for each in data.test), strict=True))
    net, records = network(seed, activation), Records()
    traced, gram = trace(net, reads[0][0][:2]), patches_of(net, held)

    def after_step(step: int) -> None:
        if step % (s.every if step <= s.until else s.later) == 0:
            found = scores(traced, reads, seed + step)
            records.append({"step": step, **measured(s, net, found, reads, held, gram, activation)})

    fit(
        net, *data.train, progress=progress, after_step=after_step, seed=seed, epochs=s.epochs, optimizer="sgd",
        batch_size=s.batch_size, learning_rate=s.learning_rate,
    )  # fmt: skip
    return traced, records, reads, held


def scores(traced: Network, reads: Pairs, seed: int) -> dict[str, Tensor]:
    """The scores of the layer's weights by each criterion, flat.

    Args:
        traced: the network.
        reads: the images that are scored.
        seed: of the random scores.
    """
    how: dict[str, Any] = {"loss": "cross_entropy", "parameters": LAYER, "lam": 1.0, "seed": seed}
    found = {
        name: score_parameters(traced, reads, criterion=name, **how)[LAYER].flatten()
        for name in ("loss_change", "taylor1", "taylor2", "magnitude", "random")
    }
    found["hessian_row"] = found["taylor2"] - found["taylor1"]
    found["taylor2, lambda 1/2"] = found["taylor1"] + found["hessian_row"] / 2
    return found | {f"{name}, absolute": found[name].abs() for name in (*SCORES, "taylor2, lambda 1/2")}


def measured(
    s: Settings, net: Net, found: dict[str, Tensor], reads: Pairs, held: Pairs, gram: Tensor, activation: str
) -> dict[str, Any]:
    """What a checkpoint records: changes of the loss by removing the weights of the lowest scores, {fraction: {name:
    change}}; those of held-out images; what groups add to the changes of their weights alone."""
    names: dict[float, Sequence[str]] = {
        s.few: (*SCORES, "random"), s.some: (*SCORES, ABSOLUTE[0], "random"),
        s.most: (*SCORES, *ABSOLUTE, "magnitude", "random"),
    }  # fmt: skip
    if activation == "relu":  # figures 2.2 and 2.3 are of tanh
        names = {s.some: (SCORES[0], ABSOLUTE[0]), s.most: (*names[s.most], "taylor2, lambda 1/2, absolute")}
    alone, start, held_start = found["loss_change"], loss_without(net, [], reads), loss_without(net, [], held)
    changes: dict[str, dict[str, float]] = {}
    held_out, interactions = {}, {}
    for fraction, each in names.items():
        lowest = {name: found[name].argsort(stable=True)[: round(fraction * len(alone))] for name in each}
        now = {name: loss_without(net, index, reads) - start for name, index in lowest.items()}
        changes[str(fraction)] = now
        if fraction != s.most:
            held_out[str(fraction)] = loss_without(net, lowest[SCORES[0]], held) - held_start
        if fraction == s.some:
            together = (SCORES[0], ABSOLUTE[0])
            interactions = {name: now[name] - float(alone[lowest[name]].sum()) for name in together}
    changes[str(s.most)]["surgeon"] = loss_after_surgery(net, round(s.most * len(alone)), gram, reads, held) - start
    negative = {name: float((found[name] < 0).double().mean()) for name in SCORES}
    negative["tiny"] = float((alone.abs() < 1e-5).double().mean())
    return {"loss": start, "changes": changes, "held_out": held_out, "interactions": interactions, "negative": negative}


def curves(records: Records) -> dict[str, Any]:
    """The records as lists over checkpoints, rounded."""
    first = records[0]
    kinds = ("held_out", "interactions", "negative")
    lists = {kind: {key: rounded([r[kind][key] for r in records]) for key in first[kind]} for kind in kinds}
    changes = {
        fraction: {name: rounded([r["changes"][fraction][name] for r in records]) for name in each}
        for fraction, each in first["changes"].items()
    }
    return {"steps": [r["step"] for r in records], "loss": rounded([r["loss"] for r in records]), **lists} | {
        "changes": changes
    }


def summary(records: Records, activation: str) -> dict[str, Any]:
    """The numbers that claims are judged by, over the checkpoints of one network."""
    steps = np.array([r["step"] for r in records])
    first, last = steps <= max(steps[0], steps[-1] / 5), steps > steps[-1] * 4 / 5
    fractions = sorted(records[0]["changes"])
    by = {f: {name: np.array([r["changes"][f][name] for r in records]) for name in records[0]["changes"][f]}
          for f in fractions}  # fmt: skip
    some, most = fractions[-2], by[fractions[-1]]
    extra = {name: np.array([r["interactions"][name] for r in records]) for name in records[0]["interactions"]}
    negative = np.array([r["negative"]["loss_change"] for r in records])
    spreads = {name: _spread(values) for name, values in most.items()}
    found: dict[str, Any] = {
        "negative": float(negative.mean()),
        "negative_last_less_first": float(negative[last].mean() - negative[first].mean()),
        "interaction_absolute_less_lowest": float(np.abs(extra[ABSOLUTE[0]]).mean() - np.abs(extra[SCORES[0]]).mean()),
        "interaction_growth": float(stats.spearmanr(steps, extra[SCORES[0]]).statistic),
        "mean_change": {name: float(values.mean()) for name, values in most.items()},
        "spread_over_magnitude": [spreads[name] / spreads["magnitude"] for name in ABSOLUTE],
    }
    for name, absolute in zip(SCORES, ABSOLUTE, strict=True):
        found[f"absolute_less_raw_{name}"] = float((most[absolute] - most[name]).mean())
        found[f"magnitude_less_{name}"] = float((most["magnitude"] - most[absolute]).mean())
    if activation == "tanh":
        few, early = by[fractions[0]], steps <= 1000
        held = {f: np.array([r["held_out"][f] for r in records]) for f in fractions[:2]}
        group = by[some][SCORES[0]]
        found["improved_by_2"] = float((few[SCORES[0]] < 0).mean())
        found["improved_by_2_held_out"] = float((held[fractions[0]] < 0).mean())
        found["change_by_10_before"] = float(group[early].mean())
        found["change_by_10_after"] = None if early.all() else float(group[~early].mean())
        found["change_by_10_held_out"] = float(held[some].mean())
        for name in SCORES[1:]:
            gap = np.abs(by[some][name] - group)
            found[f"gap_growth_{name}"] = float(gap[last].mean() - gap[first].mean())
    return {f"{activation}_{name}": value for name, value in found.items()}


def _spread(values: Any, window: int = 11) -> float:
    """Standard deviation about the running mean of so many checkpoints."""
    wide = np.pad(values, window // 2, mode="edge")
    return float((values - np.convolve(wide, np.full(window, 1 / window), "valid")).std()) + 1e-12
