"""How weights and units of the experiment `spiral` moved in training: kernels of both orders, bands, similar units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadhead.lab.experiments.spiral.networks import Keep, Net, hidden
from deadhead.lab.measures.distributions import density


def kernels(before: Net, nets: Mapping[str, Net], halves: Mapping[str, Keep], x: Tensor) -> dict[str, Any]:
    """What both orders did to the weights between the hidden layers that remain, and to their units.

    Args:
        before: the untrained network.
        nets: networks by order: "trained", and for each kind of half "KIND, train, prune" and "KIND, prune, train".
        halves: the units that remain, by kind.
        x: (points, 2) on which activations are compared.
    """
    found: dict[str, Any] = {}
    for kind, (first, second) in halves.items():
        starts = before[2].weight.detach()[second][:, first]
        one, other = (nets[f"{kind}, {order}"] for order in ("train, prune", "prune, train"))
        ends = [each[2].weight.detach() for each in (one, other)]
        moves = [(end - starts).flatten().double().numpy() for end in ends]
        found[f"{kind}_kernels"] = [end.flatten().numpy().astype(float).round(3).tolist() for end in ends]
        found[f"{kind}_kernel_correlation"] = float(np.corrcoef([end.flatten().double() for end in ends])[0, 1])
        found[f"{kind}_move_correlation"] = float(np.corrcoef(moves)[0, 1])
        found[f"{kind}_never_moved"] = float(((moves[0] == 0) & (moves[1] == 0)).mean())
        similar = unit_correlations(one, other, x)
        live = [each for each in similar if each is not None]
        found[f"{kind}_unit_correlation"] = float(np.median([each or 0.0 for each in similar]))
        found[f"{kind}_live_unit_correlation"] = float(np.median(live)) if live else None
    moved = (nets["trained"][2].weight - before[2].weight).detach().abs().flatten().double().numpy()
    place, trough = band(moved[moved > 0])
    counts = np.histogram(moved[moved > 0], np.linspace(0, 1.5, 151))[0]
    return found | {
        "band": place,
        "trough_to_peak": trough,
        "moves": counts.tolist(),
        "never_moved": float((moved == 0).mean()),
        "dead_share": float(np.mean([(h.amax(0) == 0).double().mean() for h in hidden(nets["trained"], x)])),
    }


def unit_correlations(one: Net, other: Net, x: Tensor) -> list[float | None]:
    """Correlation of each unit's activations over x in two networks; None where it is constant in one of them."""
    values: list[float | None] = []
    for a, b in zip(hidden(one, x), hidden(other, x), strict=True):
        a, b = (a - a.mean(0)).double(), (b - b.mean(0)).double()
        norms = a.norm(dim=0) * b.norm(dim=0)
        values += [float(v / n) if n > 1e-9 else None for v, n in zip((a * b).sum(0), norms, strict=True)]
    return values


def band(moves: Any) -> tuple[float, float]:
    """The highest peak of the moves beyond their first trough, and how deep the trough is; (0, 1) without one."""
    at = np.linspace(0, 1.5, 301)
    curve = density(moves, at, 0.03)
    inner = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    later = [i for i in inner if at[i] > 0.15]
    if not later:
        return 0.0, 1.0
    top = max(later, key=lambda i: curve[i])
    return float(at[top]), float(curve[:top].min() / curve[top])


def one_gradient_move(learning_rate: float, steps: int = 2000) -> float:
    """How far Adam moves a weight that has a gradient in the first step and none afterwards: 6.0 learning rates.

    Adam divides by the gradient's size, so that one gradient, however small, is worth a step; its momentum then adds
    five more. A unit that dies in its first step leaves all of its weights there.

    Source: Kingma and Ba (2015), algorithm 1.

    Args:
        learning_rate: Adam's.
        steps: after which nothing moves any more.

    >>> round(one_gradient_move(0.1), 2)
    0.6
    """
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=learning_rate)
    for step in range(steps):
        weight.grad = torch.full_like(weight, float(step == 0))
        adam.step()
    return float(weight.detach().abs())
