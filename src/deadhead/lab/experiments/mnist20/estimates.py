"""How well the estimates of the experiment `mnist20` tell the loss without a unit, in the intact networks."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deadhead.lab.lazily import stats
from deadhead.lab.measures.curves import Subject

CRITERIA = {"linear": "taylor1", "quadratic": "taylor2", "exact quadratic": "taylor2_exact"}


def estimates(subject: Subject, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Estimates of each unit's removal beside what it does to the loss.

    Args:
        subject: the intact network.
        name: of the network among results.

    Returns:
        The estimates and the measured changes, for a figure; and numbers: the log of the mean absolute error of the
        quadratic estimate by that of the linear one, the rank correlations, and the share of all damage that the most
        damaging fifth of the units holds.
    """
    measured = _flat(subject.scores("oracle"))
    found = {way: _flat(subject.scores(criterion)) for way, criterion in CRITERIA.items()}
    errors = {way: (values - measured).abs().mean().item() for way, values in found.items()}
    damage = measured.clamp(min=0).sort(descending=True).values
    numbers = {
        f"log_error_{name}": math.log(errors["quadratic"] / errors["linear"]),
        f"log_exact_error_{name}": math.log(errors["exact quadratic"] / errors["linear"]),
        f"ranks_{name}": [float(stats.spearmanr(found[way], measured)[0]) for way in ("linear", "quadratic")],
        f"exact_ranks_{name}": float(stats.spearmanr(found["exact quadratic"], measured)[0]),
        f"elite_{name}": (damage[: math.ceil(len(damage) / 5)].sum() / damage.sum()).item(),
    }
    shown = {way: _short(values) for way, values in found.items()}
    return shown | {"measured": _short(measured)}, numbers


def recursion_errors(subjects: Mapping[str, Subject], samples: int) -> dict[str, Any]:
    """Relative errors of the second derivatives by the recursion of appendix A, in float64, layer by layer.

    The control is the Gauss-Newton approximation, which is not exact in any layer.

    Args:
        subjects: networks.
        samples: on which they are compared.
    """
    found: dict[str, Any] = {"recursion_last": [], "recursion_before": [], "gauss_newton": []}
    for subject in subjects.values():
        task = subject.task
        wide = dataclasses.replace(
            task,
            model=copy.deepcopy(task.model).double(),
            **{name: getattr(task, name)[:samples].double() for name in ("inputs", "targets", "held_inputs")},
            held_targets=task.held_targets[:samples].double(),
        )
        exactly = Subject(wide)
        slopes = exactly.scores("taylor1")
        by = {
            name: {group: 2 * (value - slopes[group]) for group, value in exactly.scores(name).items()}
            for name in ("taylor2", "taylor2_exact", "taylor2_gauss_newton")
        }
        for place, (group, exact) in enumerate(by["taylor2_exact"].items(), 1):
            kind = "recursion_last" if place == len(slopes) else "recursion_before"
            found[kind].append(_relative(by["taylor2"][group], exact))
            found["gauss_newton"].append(_relative(by["taylor2_gauss_newton"][group], exact))
    return found


def _relative(found: Tensor, exact: Tensor) -> float:
    return ((found - exact).abs().max() / exact.abs().max()).item()


def _flat(scores: Mapping[str, Tensor]) -> Tensor:
    return torch.cat(list(scores.values()))


def _short(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]
