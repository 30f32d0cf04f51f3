"""Single weights closed on a schedule while a small CNN trains on MNIST: what it costs, and where the zeros gather."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.network import Network, trace
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.schedule.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.schedule.figures import PICTURES
from deadhead.lab.networks.mnist_cnn import Pairs, Parts, batches, epoch, network, parts
from deadhead.lab.train import evaluate
from deadhead.progress import Progress, track
from deadhead.pruning.minimise import minimise
from deadhead.pruning.prune import prune
from deadhead.pruning.pruned import Pruned
from deadhead.training import Masks

Net = Any
WEIGHTS = ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight")
SIZE = 200 + 3200 + 16384 + 640
"""Weights of the small CNN, without biases."""


@dataclass(frozen=True)
class Settings:
    """Settings; where Evci (2018), section 2.2, is silent, a choice.

    Args:
        epochs: passes over the training images.
        batch_size: of a step; section 2.1's.
        learning_rate: of plain SGD; section 2.1's.
        after: epochs after which weights are closed.
        fractions: of all weights that are closed then (table 2.2); biases are not pruned.
        scope: "all" ranks the weights of all layers together, as the text says ("a fraction f of all parameters");
            "group" closes the fraction in each layer by itself.
        validation: training images held out, on which the fraction of figure 2.11 is chosen.
        images: of each part at most; 0 is all.
        nonzero: fractions of non-zero weights at or below which a unit is removed (fig. 2.11).
        compared: those of them at which least squares and `obs` are compared.
        samples: training images that means and compensations are taken from.
        every: steps between two points of the loss curve, which are means over them.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.01
    after: tuple[int, ...] = (2, 3, 4, 5)
    fractions: tuple[float, ...] = (0.2, 0.5, 0.8, 0.9)
    scope: str = "all"
    validation: int = 5000
    images: int = 0
    nonzero: tuple[float, ...] = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
    compared: tuple[float, ...] = (0.04, 0.1, 0.2)
    samples: int = 1000
    every: int = 50


QUICK = {"epochs": 3, "after": (1, 2), "fractions": (0.5, 0.9), "images": 600, "samples": 250, "every": 10,
         "nonzero": (0.0,), "compared": (), "learning_rate": 0.1}  # fmt: skip


@dataclass
class Run:
    """One training: losses of its steps, and for each epoch test accuracy and the fraction of weights closed."""

    net: Net
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    jumps: list[float] = field(default_factory=list)
    keep: Mapping[str, Tensor] = field(default_factory=dict)


@experiment(
    "schedule", Settings, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY,
    variants={"each layer": {"scope": "group", "compared": (), "nonzero": (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)}},
)  # fmt: skip
def schedule(settings: Settings, seed: int, progress: Progress | None) -> dict[str, Any]:
    """The smallest weights of a small CNN on MNIST, closed for good after epochs 2 to 5 of its training (20, 50, 80 and
    90 % of them), beside a twin without pruning from the same seed: losses, where the zeros gather, and how many units
    they leave superfluous.

    Jumps are of the loss on held-out validation images, right after weights are closed less right before. Until the
    first weights are closed both runs are the same, and computed once.
    """
    data = parts(settings.validation, settings.images)
    pruned, twin = trained(settings, data, seed, progress)
    ends = {name: evaluate(run.net, *data.test) for name, run in (("pruned", pruned), ("twin", twin))}
    found: dict[str, Any] = {
        "losses": {"pruned": _smoothed(pruned.losses, settings.every), "twin": _smoothed(twin.losses, settings.every)},
        "accuracies": {"pruned": pruned.accuracies, "twin": twin.accuracies},
        "closed": pruned.closed,
        **{f"jump_at_{f:g}": jump for f, jump in zip(settings.fractions, pruned.jumps, strict=True)},
        "final_loss_gap": ends["pruned"][0] - ends["twin"][0],
        "accuracy": ends["pruned"][1],
        "twin_accuracy": ends["twin"][1],
        "accuracy_drop_points": 100 * (ends["twin"][1] - ends["pruned"][1]),
        **{
            f"drop_points_while_{fraction:g}": 100 * (twin.accuracies[after] - pruned.accuracies[after])
            for fraction, after in zip(settings.fractions, settings.after, strict=True)
            if after < settings.epochs
        },
        "twin_gain_points": 100 * (twin.accuracies[-1] - twin.accuracies[settings.after[-1]]),
        "pruned_gain_points": 100 * (pruned.accuracies[-1] - pruned.accuracies[settings.after[-1]]),
    }
    found |= gathered(pruned.net, twin.net, pruned.keep, seed)
    found |= removed_units(settings, pruned.net, data, progress)
    found["magnitudes"] = {name: magnitudes(run.net) for name, run in (("pruned", pruned), ("twin", twin))}
    return found


def trained(s: Settings, data: Parts, seed: int, progress: Progress | None = None) -> tuple[Run, Run]:
    """Train with the schedule and without, from the same start and in the same order of samples.

    Args:
        s: settings.
        data: the parts of MNIST.
        seed: of the start and of the order.
        progress: called after each epoch.

    Returns:
        The pruned run, its weights closed at zero, and its twin.
    """
    steps = s.epochs * (len(data.train[1]) // s.batch_size)
    shared = s.after[0]
    ticks = track(progress, "training", range(2 * steps - shared * steps // s.epochs))
    start, order = Run(network(seed)), torch.Generator().manual_seed(seed)
    _epochs(s, start, data, order, range(1, shared + 1), ticks)
    twin = copy.deepcopy(start)
    continued = torch.Generator()
    continued.set_state(order.get_state())
    _epochs(s, start, data, order, range(shared + 1, s.epochs + 1), ticks, prunes=True)
    _epochs(s, twin, data, continued, range(shared + 1, s.epochs + 1), ticks)
    return start, twin


def _epochs(
    s: Settings, run: Run, data: Parts, order: torch.Generator, epochs: range, ticks: Any, *, prunes: bool = False
) -> None:
    """Train for some epochs, with the schedule if `prunes`; a round that is due before them is done at once."""
    optimizer = torch.optim.SGD(run.net.parameters(), lr=s.learning_rate)
    fractions = dict(zip(s.after, s.fractions, strict=True)) if prunes else {}
    masks = Masks(run.net, optimizer, example=data.train[0][:2]) if prunes else None
    for number in range(epochs.start - 1, epochs.stop):
        if number >= epochs.start:
            for loss in epoch(run.net, optimizer, data.train, s.batch_size, order):
                run.losses.append(loss)
                next(ticks, None)
            run.accuracies.append(evaluate(run.net, *data.test)[1])
            run.closed.append(_share_closed(masks))
        if masks is not None and number in fractions:
            before = evaluate(run.net, *data.validation)[0]
            masks.prune(weights=1 - fractions[number], scope=s.scope)  # by magnitude
            run.jumps.append(evaluate(run.net, *data.validation)[0] - before)
    if masks is not None:
        run.keep = masks.keep
        masks.stop()


def _share_closed(masks: Masks | None) -> float:
    """The share of all weights that are closed."""
    closed = 0 if masks is None else sum(int((~each).sum()) for each in masks.keep.values())
    return closed / SIZE


def gathered(pruned: Net, twin: Net, keep: Mapping[str, Tensor], seed: int) -> dict[str, Any]:
    """Where the zeros are: by unit, by filter, by input channel, and among the twin's largest weights.

    Args:
        pruned: the network with zeros.
        twin: the network that was not pruned.
        keep: {parameter: true where a weight is open}.
        seed: of the permutations.
    """
    draw = np.random.default_rng(seed)
    rows = {name: keep[name].flatten(1).double().numpy() for name in WEIGHTS if name in keep}
    percentiles = []
    for name in WEIGHTS[:3]:
        found = rows[name].mean(1).std()
        mixed = [draw.permutation(rows[name].ravel()).reshape(rows[name].shape).mean(1).std() for _ in range(1000)]
        percentiles.append(float((np.array(mixed) < found).mean()))
    channels = keep["conv2.weight"].flatten(2).sum(2)  # (outputs, inputs), of 25 weights
    emptiest = np.argsort(rows["conv2.weight"].mean(1), kind="stable")[:2]
    columns = keep["fc1.weight"].double().reshape(64, 16, -1).mean((0, 2)).numpy()  # by conv2's units
    largest = [
        torch.topk(twin.get_parameter(name).detach().abs().flatten(), max(1, keep[name].numel() // 20)).indices
        for name in WEIGHTS
    ]
    kept = [keep[name].flatten()[index] for name, index in zip(WEIGHTS, largest, strict=True)]
    return {
        "spread_percentile": percentiles,
        "empty_filters": [int((rows[name].sum(1) == 0).sum()) for name in WEIGHTS[:2]],
        "emptiest_filter_density": [float(rows[name].mean(1).min()) for name in WEIGHTS[:2]],
        "channels_missing": float((channels <= 1).double().sum(1).mean()),
        "largest_kept": float(torch.cat(kept).double().mean()),
        "stripe_density_ratio": float(columns[emptiest].mean() / np.delete(columns, emptiest).mean()),
        "layer_density": {name: float(rows[name].mean()) for name in WEIGHTS if name in rows},
    }


def removed_units(s: Settings, net: Net, data: Parts, progress: Progress | None = None) -> dict[str, Any]:
    """Remove units with few non-zero weights: parameters and accuracies by fraction and by what makes up for them.

    Args:
        s: settings.
        net: the network with zeros; it is left as it was.
        data: the parts of MNIST.
        progress: called after each fraction.

    Returns:
        For each fraction, parameters and accuracies; at fraction 0 the change of the test outputs with means in the
        biases and without; and the smallest network whose validation accuracy is at most 0.2 points below.
    """
    reads, network = batches(data.train, s.samples), trace(net, data.train[0][:2])
    curve: dict[str, Any] = {"fractions": list(s.nonzero), "compared": list(s.compared)}
    for kind in ("parameters", "zero", "mean", "validation", "least_squares", "obs"):
        curve[kind] = []
    changes: dict[str, list[float]] = {"mean": [], "zero": []}
    expected = _outputs(net, data.test[0])
    for fraction in track(progress, "removing units", s.nonzero):
        cut = _without(network, reads, fraction)
        means = net if cut is None else cut.model
        curve["parameters"].append(sum(each.numel() for each in means.parameters()))
        curve["mean"].append(evaluate(means, *data.test)[1])
        curve["validation"].append(evaluate(means, *data.validation)[1])
        with Masks(network, None) as masks:
            masks.close({} if cut is None else cut.plan.removed)  # nothing is propagated
            curve["zero"].append(evaluate(net, *data.test)[1])
            if cut is not None and fraction == 0:
                changes["zero"].append(_change(_outputs(net, data.test[0]), expected))
                changes["mean"].append(_change(_outputs(means, data.test[0]), expected))
            masks.open()
        if fraction in s.compared:
            for kind, each in _beyond(network, reads, cut).items():
                curve[kind].append(evaluate(each, *data.test)[1])
    return {
        "removal": curve,
        "at_about_half": _compared(s, curve, 0),
        "at_a_tenth": _compared(s, curve, 1),
        "output_change_with_means": changes["mean"],
        "output_change_without": changes["zero"],
        **_smallest(curve, evaluate(net, *data.validation)[1], evaluate(net, *data.test)[1]),
    }


def _without(network: Network, reads: Pairs, fraction: float) -> Pruned | None:
    """The network without units of few non-zero weights, means propagated; None where there are none."""
    try:
        return minimise(network, reads, at_most=fraction)
    except BudgetError:
        return None


def _beyond(network: Network, reads: Pairs, cut: Pruned | None) -> dict[str, Net]:
    """The same units with their consumers refitted, and the units that `obs` would remove for the same size."""
    if cut is None:
        return {"least_squares": network.module, "obs": network.module}
    how: dict[str, Any] = {"loss": "cross_entropy", "compensate": "least_squares", "curve": 0}
    size = sum(each.numel() for each in cut.model.parameters())
    return {
        "least_squares": prune(network, reads, plan=cut.plan, **how).model,
        "obs": prune(network, reads, params=size, criterion="obs", **how).model,
    }


def _smallest(curve: Mapping[str, Any], validation: float, test: float) -> dict[str, Any]:
    """The smallest network that validation images allow: its parameters, and what it costs on test images."""
    free = [i for i, accuracy in enumerate(curve["validation"]) if accuracy >= validation - 0.002]
    best = min(free, key=lambda i: curve["parameters"][i], default=0)
    return {
        "parameters_left": curve["parameters"][best],
        "nonzero_fraction_chosen": curve["fractions"][best],
        "removal_drop_points": 100 * (test - curve["mean"][best]),
    }


def _compared(s: Settings, curve: Mapping[str, Any], place: int) -> dict[str, float | None]:
    """What is compared at one of the fractions: parameters and accuracies; nothing where it was not."""
    if place >= len(s.compared):
        return dict.fromkeys(("parameters", "zero", "mean", "least_squares", "obs"))
    at = s.nonzero.index(s.compared[place])
    found = {kind: curve[kind][at] for kind in ("parameters", "zero", "mean")}
    return {**found, "least_squares": curve["least_squares"][place], "obs": curve["obs"][place]}


def _outputs(net: Net, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(x) for x in torch.split(inputs, 1000)])


def _change(found: Tensor, expected: Tensor) -> float:
    """The largest change of an output, relative to the largest output."""
    return float((found - expected).abs().max() / expected.abs().max())


def _smoothed(losses: list[float], every: int) -> list[float]:
    """Means over so many steps."""
    stop = len(losses) // every * every
    return [float(x) for x in np.array(losses[:stop]).reshape(-1, every).mean(1).round(4)]


def magnitudes(net: Net) -> dict[str, str]:
    """Magnitudes of each layer as bytes, 255 the largest of the layer, in base64.

    Args:
        net: the network.
    """
    packed = {}
    for name in WEIGHTS:
        value = net.get_parameter(name).detach().abs().contiguous()
        scaled = (255 * value / value.max()).round().to(torch.uint8).numpy()
        packed[name] = base64.b64encode(scaled.tobytes()).decode()
    return packed
