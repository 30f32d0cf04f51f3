"""Units that are closed for a while and opened again, against units that are removed for good."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.lab.data import Split, load
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.reopen.claims import CLAIMS, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.reopen.figures import PICTURES
from deadhead.lab.experiments.unit_pruning.experiment import MRS
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import UNITS, Arms, Way, batched, parameters, remaining
from deadhead.lab.networks.side_by_side import SideBySide
from deadhead.lab.train import evaluate
from deadhead.progress import Progress, track
from deadhead.training import Masks

Data = Sequence[tuple[Tensor, Tensor]]
REOPENED = {"reopened": "as it was", "reopened anew": "anew"}
"""Copies whose closed units are opened before every choice, and what these start from."""


@dataclass(frozen=True)
class Reopen:
    """Settings: those of Evci (2018), section 4.2; the notes on pruning give none.

    Args:
        epochs: passes over the training images.
        learning_rate: of gradient descent without momentum or weight decay.
        batch_size: of training.
        rounds: the epochs after which units are chosen.
        fractions: of the units of each layer that are closed by then.
        again: the epoch after which units are opened and chosen once more.
        trained_open: epochs that one copy trains with all units open before they are chosen once more.
        copies: those that are trained beside the twin, of `ways`.
        disrupted: fractions of units that are closed in the trained twin.
        read: training images that a round reads.
        images: training images in all.
        tested: test images.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    batch_size: int = 32
    rounds: tuple[int, ...] = (2, 3, 4, 5)
    fractions: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6)
    again: int = 6
    trained_open: int = 1
    copies: tuple[str, ...] = ("removed", "reopened", "reopened anew", "open for an epoch")
    disrupted: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6)
    read: int = 1000
    images: int = 60000
    tested: int = 10000


QUICK = {
    "epochs": 4, "learning_rate": 0.1, "rounds": (1, 2), "fractions": (0.2, 0.6), "again": 3, "read": 200,
    "copies": ("removed", "reopened"), "disrupted": (0.6,), "images": 1000, "tested": 300,
}  # fmt: skip


@experiment("reopen", Reopen, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def reopen(settings: Reopen, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether units that can come back make a better small network than units that are removed for good.

    Copies of the CNN of 8-16-64 units lose units by mean replacement saliency after epochs 2 to 5, as in Evci (2018).
    In one they are removed for good. In others all closed units are opened before each choice, when they have been
    closed for an epoch, with the weights that they had or with new ones, and are chosen once more after epoch 6; in the
    last they train an epoch open before that. All end with 4-7-26 units. A twin keeps all units, and at its end units
    are closed, or as many weights, without training on.

    Args:
        settings: see `Reopen`.
        seed: of start, order and random choices.
        progress: called after each step.

    Returns:
        Numbers that the claims are judged by, and losses through training.

    Source: "Pruning in Neural Networks: Purpose and Concept", pruning nodes.
    """
    s, data = settings, load("mnist", progress=progress)
    data = replace(data, test_inputs=data.test_inputs[: s.tested], test_targets=data.test_targets[: s.tested])
    inputs, targets = data.train_inputs[: s.images], data.train_targets[: s.images]
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed + 1))[: s.read]
    known = batched(inputs[rows], targets[rows])
    before = SideBySide([small_cnn(seed=seed)], s.learning_rate)
    losses = []
    for epoch in range(1, s.rounds[0] + 1):
        label = f"epoch {epoch} of {s.epochs}"
        before.epoch(inputs, targets, s.batch_size, draw, label=label, progress=progress)
        losses.append(evaluate(before.models[0], data.test_inputs, data.test_targets)[0])
    arms = Arms(before.models[0], ways(s), s.learning_rate)
    curves, ever = {name: list(losses) for name in arms.models}, {name: set[tuple[str, int]]() for name in arms.masks}
    for epoch in range(s.rounds[0], s.epochs + 1):
        if epoch > s.rounds[0]:
            label = f"epoch {epoch} of {s.epochs}"
            arms.stack.epoch(inputs, targets, s.batch_size, draw, label=label, progress=progress)
            for name, model in arms.models.items():
                curves[name].append(evaluate(model, data.test_inputs, data.test_targets)[0])
        _open(arms, epoch, s, seed)
        arms.prune(epoch, known, seed=seed)
        for name, masks in arms.masks.items():
            ever[name] |= {(layer, unit) for layer, units in masks.closed.items() for unit in units}
    return {
        "curves": {name: [round(x, 5) for x in each] for name, each in curves.items()},
        **_ends(arms, data, ever),
        **_disruption(arms.models["twin"], known, data, s, progress),
    }


def ways(s: Reopen) -> dict[str, Way]:
    """How each copy is pruned."""
    rounds = {epoch: remaining(fraction) for epoch, fraction in zip(s.rounds, s.fractions, strict=True)}
    options = {**MRS, "samples": s.read}
    once_more = {**rounds, s.again: rounds[s.rounds[-1]]}
    later = {**rounds, s.again + s.trained_open: rounds[s.rounds[-1]]}
    found = {
        "removed": Way(rounds, options),
        "reopened": Way(once_more, options),
        "reopened anew": Way(once_more, options),
        "open for an epoch": Way(later, options),
    }
    return {"twin": Way(), **{name: found[name] for name in s.copies}}


def _open(arms: Arms, epoch: int, s: Reopen, seed: int) -> None:
    """Open closed units where they are to be chosen again, or are to train open."""
    due = arms.due(epoch)
    for name, how in REOPENED.items():
        if name in due and arms.masks[name].closed:
            arms.masks[name].open(how=how, seed=seed)
            arms.hold(name)
    if epoch == s.again and "open for an epoch" in arms.masks:
        arms.masks["open for an epoch"].open()
        arms.hold("open for an epoch")


def _ends(arms: Arms, data: Split, ever: Mapping[str, set[tuple[str, int]]]) -> dict[str, Any]:
    """Losses and sizes at the end, and how many units came back."""
    ends = {}
    for name, model in arms.models.items():
        loss, accuracy = evaluate(model, data.test_inputs, data.test_targets)
        ends[name] = {
            "test_loss": round(loss, 5),
            "accuracy": 100 * accuracy,
            "parameters": parameters(arms.units(name)),
        }
    found: dict[str, Any] = {"ends": ends, "twin_loss": ends["twin"]["test_loss"]}
    for key, name in (("reopened", "reopened"), ("anew", "reopened anew"), ("open", "open for an epoch")):
        if name not in arms.masks:
            continue
        closed = {(layer, unit) for layer, units in arms.masks[name].closed.items() for unit in units}
        other = {(layer, unit) for layer, units in arms.masks["removed"].closed.items() for unit in units}
        found[f"{key}_loss_change"] = ends[name]["test_loss"] - ends["removed"]["test_loss"]
        found[f"{key}_accuracy_change"] = ends[name]["accuracy"] - ends["removed"]["accuracy"]
        found[f"{key}_came_back"] = len(ever[name] - closed)
        found[f"{key}_chosen_otherwise"] = len(closed - other)
    return found | {"removed_loss": ends["removed"]["test_loss"], "removed_accuracy": ends["removed"]["accuracy"]}


def _disruption(net: nn.Module, known: Data, data: Split, s: Reopen, progress: Progress | None) -> dict[str, Any]:
    """Rise of the test loss when units of the trained twin are closed, or single weights, to as many parameters.

    Units by mean replacement saliency with means propagated, and by the optimal brain surgeon with least squares;
    weights by magnitude, over all layers.
    """
    before = evaluate(net, data.test_inputs, data.test_targets)[0]
    biases = sum(UNITS.values()) + 10
    rises: dict[str, list[float]] = {"units": [], "units refitted": [], "weights": []}
    for fraction in track(progress, "units or weights", s.disrupted):
        units = remaining(fraction)
        share = (parameters(units) - biases) / (parameters() - biases)
        ways: dict[str, dict[str, Any]] = {
            "units": {"units": units, **MRS},
            "units refitted": {"units": units, "criterion": "obs", "compensate": "least_squares"},
            "weights": {"weights": share, "scope": "all"},
        }
        for name, options in ways.items():
            smaller = copy.deepcopy(net)
            Masks(smaller, None, example=data.test_inputs[:2]).prune(
                known, loss="cross_entropy", samples=s.read, **options
            )
            rise = evaluate(smaller, data.test_inputs, data.test_targets)[0] - before
            rises[name].append(round(rise, 5))
    pairs = zip(rises["units"], rises["weights"], strict=True)
    refitted = zip(rises["units refitted"], rises["weights"], strict=True)
    return {
        "rises": rises,
        "sizes": [parameters(remaining(fraction)) for fraction in s.disrupted],
        "units_less_weights": [unit - weight for unit, weight in pairs],
        "units_less_weights_mean": (sum(rises["units"]) - sum(rises["weights"])) / len(s.disrupted),
        "refitted_less_weights": [unit - weight for unit, weight in refitted],
    }
