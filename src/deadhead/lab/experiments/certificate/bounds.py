"""Measured changes of the loss against certified bounds, for single units and random sets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadhead.data.opened import opened
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.progress import Progress, track
from deadhead.scores.criterion import Question, ask

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """A network whose bounds are tried.

    Args:
        network: a classifier in float64, traced.
        weights: a module with its weights, which it takes.
        data: inputs and targets on which means, deviations and losses are taken.
        sets: random sets of units that are replaced together, besides every single unit.
        seen: other data, for bounds that are then measured on `data` (default: none).
    """

    network: Network
    weights: nn.Module
    data: Data
    sets: int
    seen: Data | None = None


def bounds(cases: Mapping[str, Case], draw: np.random.Generator, progress: Progress | None) -> dict[str, Any]:
    """Bounds and measured changes of every case, in float64.

    Args:
        cases: networks by name.
        draw: of the sets.
        progress: called after each removal.

    Returns:
        The largest ratio of a measured change to its bound (above 1 it is violated), the same for a hundredth of the
        bound and without the factor sqrt(2), medians by case, and the points of a scatter plot.
    """
    shown, worst, unseen = {}, {}, None
    removals = 0
    for name, case in cases.items():
        bound, change = _tried(case, case.data, draw, progress, name)
        ratios = change[bound > 0] / bound[bound > 0]
        assert float(change[bound == 0].max(initial=0.0)) < 1e-12, "a unit that never changes has an effect"
        worst[name] = float(ratios.max())
        shown[name] = {
            "bound": _rounded(bound[::3]),
            "change": _rounded(change[::3]),
            "median_ratio": float(np.median(ratios)),
            "worst_ratio": worst[name],
        }
        removals += len(bound)
        if case.seen is not None:
            bound, change = _tried(case, case.seen, draw, progress, name)
            unseen = float((change[bound > 0] / bound[bound > 0]).max())
    most = max(worst.values())
    return {
        "removals": removals,
        "worst_ratio": most,
        "worst_ratio_without_root_two": math.sqrt(2) * most,
        "worst_ratio_at_hundredth": 100 * most,
        "worst_ratio_from_training_points": unseen,
        "bounds": shown,
    }


def _tried(case: Case, taken: Data, draw: np.random.Generator, progress: Progress | None, name: str) -> tuple[Any, Any]:
    """Bounds from the data `taken`, and mean absolute changes of the loss on that of the case, with the means taken."""
    network = case.network
    network.module.load_state_dict(case.weights.state_dict())
    loss, batches, _ = opened(network, [taken], "cross_entropy", None)
    batch = opened(network, [case.data], "cross_entropy", None)[1][0]
    question = Question(PrunedState.of(network), network.groups, batches, loss, reference="mean")
    certificates = {group: each.numpy() for group, each in ask(question, "certificate").items()}
    gates = question.gates()
    bound, change = [], []
    with torch.no_grad():
        intact = gates.loss({}, batch)
        work = _removals({group: len(each) for group, each in certificates.items()}, case.sets, draw)
        for closed in track(progress, f"certificate, {name}", work):
            alpha = {}
            for group, units in closed.items():
                alpha[group] = torch.ones(len(certificates[group]), dtype=torch.float64)
                alpha[group][units] = 0.0
            bound.append(sum(float(certificates[group][units].sum()) for group, units in closed.items()))
            change.append(float((gates.loss(alpha, batch) - intact).abs().mean()))
    return np.array(bound), np.array(change)


def _removals(sizes: Mapping[str, int], sets: int, draw: np.random.Generator) -> list[dict[str, Any]]:
    """Every single unit, and random sets of 2 to all but one unit of all groups, small ones as often as large ones."""
    units = [(group, unit) for group, size in sizes.items() for unit in range(size)]
    chosen = [[each] for each in units]
    for _ in range(sets):
        count = round(float(np.exp(draw.uniform(np.log(2), np.log(len(units) - 1)))))
        chosen.append([units[i] for i in draw.permutation(len(units))[:count]])
    return [
        {group: [unit for own, unit in each if own == group] for group in dict.fromkeys(own for own, _ in each)}
        for each in chosen
    ]


def _rounded(values: Any) -> list[float]:
    return [float(f"{each:.4g}") for each in values]
