"""Numbers of the experiment `unit_saliencies`: what its claims are judged by, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MRP, MRS, L1, L2, RANDOM = range(5)
"""Places of the criteria among measured rises."""
FLOOR = 1e-4
"""Rises of the loss below this count as this in ratios, so that none is divided by zero."""

LAYERS = ("conv1", "conv2", "fc1")
Seen = Mapping[str, Any]
"""Arrays of what was measured of one network, one entry for each measurement first."""


def numbers(found: Mapping[str, Seen], ends: Mapping[str, Mapping[str, float]], s: Any) -> dict[str, Any]:
    """All numbers of a seed.

    Args:
        found: {"relu", "tanh": what was measured}.
        ends: {"relu", "tanh": accuracy and losses at the end}.
        s: the experiment's settings.
    """
    relu, tanh = found["relu"], found["tanh"]
    result: dict[str, Any] = {f"{name}_{key}": value for name, each in ends.items() for key, value in each.items()}
    result |= _first_layer(relu) | _half(relu, s) | _factors(relu, s) | _tanh(relu, tanh, s) | _otherwise(found, s)
    result = {name: float(value) if isinstance(value, np.floating) else value for name, value in result.items()}
    return result | {
        "error_rho": [_mean_rho(each, "error") for each in (relu, tanh)],
        "norm_rho": _mean_rho(relu, "norm"),
        "mrs_rho": [_mean_rho(each, "mrs") for each in (relu, tanh)],
        "steps": {layer: _steps(relu, layer) for layer in LAYERS},
        "curves": {name: _curves(each) for name, each in found.items()},
    }


def at(s: Any, factor: float) -> int:
    """The place of a factor among the settings'; the nearest, where it is not among them."""
    return int(np.abs(np.array(s.factors) - factor).argmin())


def _first_layer(relu: Seen) -> dict[str, Any]:
    """Half of conv1: how many units two criteria share, and what chance costs over the penalty's choice."""
    rise = np.maximum(relu["conv1 rise"][:, :, 0], FLOOR)
    ratio = rise[:, RANDOM] / rise[:, MRP]
    return {
        "overlaps": relu["overlaps"].mean(0).round(3).tolist(),
        "random_ratio_median": float(np.median(ratio)),
        "random_ratio_largest": float(ratio.max()),
    }


def _half(relu: Seen, s: Any) -> dict[str, Any]:
    """Half of fc1, before and after the step at which norms are said to diverge."""
    rise, late = relu["fc1 rise"][:, :, at(s, 0.5)], relu["step"] > s.late
    after, before = rise[late].mean(0), rise[~late].mean(0)
    gap = [each[[L1, L2]].mean() - each[MRP] for each in (after, before)]
    return {
        "late_mrs_less_mrp": after[MRS] - after[MRP],
        "late_l1_less_mrs": after[L1] - after[MRS],
        "late_l2_less_mrs": after[L2] - after[MRS],
        "late_gap": gap[0],
        "gap_growth": gap[0] - gap[1],
    }


def _factors(relu: Seen, s: Any) -> dict[str, Any]:
    """How often penalty or saliency choose best above a tenth, and how norms do at a tenth."""
    shares = []
    above = [place for place, factor in enumerate(s.factors) if factor > 0.1]
    for layer in ("conv2", "fc1"):
        rise = relu[f"{layer} rise"][:, :, above]
        shares.append(float((rise[:, [MRP, MRS]].min(1) <= rise[:, [L1, L2]].min(1)).mean()))
    tenth = relu["fc1 rise"][:, :4, at(s, 0.1)]
    fifth = max(1, len(tenth) // 5)
    early, late = tenth[:fifth].mean(0), tenth[-fifth:].mean(0)
    return {
        "best_shares": shares,
        "tenth_early": early[[L1, L2]].mean() - early[[MRP, MRS]].mean(),
        "tenth_late": late[[L1, L2]].mean() / max(late[[MRP, MRS]].mean(), FLOOR) - 1,
        "tenth_negative": float((tenth < 0).mean()),
    }


def _tanh(relu: Seen, tanh: Seen, s: Any) -> dict[str, Any]:
    """The same of Tanh, and against ReLU, on fc1."""
    rise, other = tanh["fc1 rise"].mean(0), relu["fc1 rise"].mean(0)  # (criteria, factors)
    small, middle, large = ([at(s, f) for f in group] for group in ((0.1, 0.2), (0.4, 0.5), (0.6, 0.8)))
    norms, means = rise[[L1, L2]].mean(0), rise[[MRP, MRS]].mean(0)
    # below 0.4 the rise with ReLU is about zero, and a ratio to it says nothing
    ratios = (rise[MRP] / np.maximum(other[MRP], FLOOR))[at(s, 0.4) :]
    half = at(s, 0.5)
    return {
        "tanh_small": (norms - means)[small].mean(),
        "tanh_middle": (norms - means)[middle].mean(),
        "tanh_large_mrp": (rise[MRP] - rise[[MRS, L1, L2]].min(0))[large].mean(),
        "tanh_large_mrs": (rise[MRS] - rise[[MRP, L1, L2]].max(0))[large].mean(),
        "tanh_over_relu": float(ratios.mean()),
        "tanh_over_relu_largest": float(ratios.max()),
        "random_tanh_over_relu": rise[RANDOM, half] / other[RANDOM, half],
        "best_over_random": rise[:4, half].min() / rise[RANDOM, half],
        "best_over_random_relu": other[:4, half].min() / other[RANDOM, half],
    }


def _otherwise(found: Mapping[str, Seen], s: Any) -> dict[str, Any]:
    """Other constants than the mean, the mean after the nonlinearity, zero; and images that no choice saw."""
    result: dict[str, Any] = {}
    for name, seen in found.items():
        means = {layer: seen[f"{layer} mean before"].mean(0) for layer in LAYERS}
        after = {layer: seen[f"{layer} mean after"].mean(0) - means[layer] for layer in LAYERS}
        result[f"{name}_after_less_before"] = float(np.concatenate(list(after.values())).mean())
        for constant in ("median", "min", "max"):
            result[f"{name}_{constant}_less_mean"] = float((seen[f"fc1 {constant}"].mean(0) - means["fc1"]).mean())
        zero = {layer: seen[f"{layer} zero"].mean(0) for layer in LAYERS}
        for place, factor in enumerate(s.factors):
            values = [(means[layer] - zero[layer])[place] for layer in ("conv2", "fc1")]
            if factor == 0.5:
                values.append((means["conv1"] - zero["conv1"])[0])
            result[f"{name}_mean_less_zero_{factor:g}"] = float(np.mean(values))
        result[f"{name}_fc1"] = {
            "mean": means["fc1"].round(5).tolist(),
            "mean after": seen["fc1 mean after"].mean(0).round(5).tolist(),
            "zero": zero["fc1"].round(5).tolist(),
            "held out": seen["fc1 held out"].mean(0).round(5).tolist(),
            **{c: seen[f"fc1 {c}"].mean(0).round(5).tolist() for c in ("median", "min", "max")},
        }
    return result


def _mean_rho(seen: Seen, kind: str) -> float:
    """A rank correlation, mean over measurements and layers."""
    return float(np.mean([seen[f"{layer} {kind} rho"].mean() for layer in LAYERS]))


def _halved(values: Any) -> Any:
    """Means of two measurements at a time; as they are, where there are few."""
    values = np.asarray(values, dtype=float)
    if len(values) < 4:
        return values
    return values[: len(values) // 2 * 2].reshape(-1, 2, *values.shape[1:]).mean(1)


def _steps(seen: Seen, layer: str) -> list[float]:
    """The steps of a layer's curves; conv1 is measured at some of the others' steps, the last of so many."""
    steps = seen["step"]
    every = len(steps) // len(seen[f"{layer} rise"])
    found: list[float] = _halved(steps[every - 1 :: every]).tolist()
    return found


def _curves(seen: Seen) -> dict[str, Any]:
    """Rises through training: {layer: (factors, criteria, points)}, to three digits."""
    found = {}
    for layer in LAYERS:
        values = _halved(seen[f"{layer} rise"]).transpose(2, 1, 0)
        found[layer] = [[[float(f"{x:.3g}") for x in line] for line in factor] for factor in values.tolist()]
    return found
