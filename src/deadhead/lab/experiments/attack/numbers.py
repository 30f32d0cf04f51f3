"""From looks at attacked and intact networks to the numbers by which the claims of `attack` are judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadhead.lab.experiments.attack.looks import Look
from deadhead.lab.experiments.attack.outcomes import (
    LOWEST,
    Looks,
    Outcome,
    digits,
    less,
    mean,
    nothing,
    outcomes,
    over,
    rho,
)
from deadhead.lab.experiments.attack.runs import LAYERS
from deadhead.lab.experiments.attack.settings import Attacks
from deadhead.lab.experiments.attack.states import states
from deadhead.lab.lazily import stats

BINS = 32
"""Of a histogram whose entropy is taken."""


def numbers(looks: Looks, s: Attacks) -> dict[str, Any]:
    """All of them; None where a seed has no case.

    Args:
        looks: at every copy.
        s: the settings.
    """
    found = outcomes(looks)
    intact = {run.network: list(each) for run, each in looks.items() if run.set == "intact"}
    attacked = sum(run.set != "intact" for run in looks)
    sets: dict[str, list[Outcome]] = {}
    for each in found:
        sets.setdefault(f"{each.run.set} {each.run.network}", []).append(each)
    result: dict[str, Any] = {"attacked": attacked, "diverged": attacked - len(found)}
    result |= states(found, intact) | _ranks(found, intact)
    for name, members in sets.items():
        result |= _of_a_set(name.replace(" ", "_"), members, intact[members[0].run.network])
    if "norm" in intact:
        result |= _intact(intact["norm"])
    result |= _killed([each for each in found if each.run.network == "norm"]) | _starts(
        sets.get("starts norm", ()), intact
    )
    result |= _multipliers(sets.get("multipliers norm", ()), s) | _tanh(sets) | _relu(sets)
    return result | _between(sets)


def _of_a_set(name: str, each: Sequence[Outcome], intact: Sequence[Look]) -> dict[str, Any]:
    """What became of the units of a set; losses over the last interval, where it is as long as the intact one's."""
    changes = [abs(o.looks[-1].training_loss / o.intact[-1].training_loss - 1) for o in each if len(o.looks) > 1]
    before = {look.step: look for look in intact if look.mrp}
    alive = [
        o for o in each
        if (at := before.get(o.run.start)) is None or not nothing(at, at, "mrp", o.run.layer)[o.run.unit]
    ]  # fmt: skip
    return {
        f"{name}_log_q": mean(o.log_q for o in each),
        f"{name}_killed": mean(o.q < 0.5 for o in each),
        f"{name}_gained": mean(o.q > 1 for o in each),
        f"{name}_lowered": mean(o.q < 1 for o in each),
        f"{name}_loss_change": mean(changes),
        f"{name}_killed_by_layer": [mean(o.q < 0.5 for o in each if o.run.layer == layer) for layer in LAYERS],
        f"{name}_lowered_by_layer": [mean(o.q < 1 for o in each if o.run.layer == layer) for layer in LAYERS],
        f"{name}_weights_by_layer": [
            mean(o.ratio("incoming") for o in each if o.run.layer == layer) for layer in LAYERS
        ],
        f"{name}_dead_before": len(each) - len(alive),
        f"{name}_killed_of_alive": mean(o.q < 0.5 for o in alive),
        f"{name}_all_negative": mean(_all_negative(o) for o in each),
    }


def _intact(looks: Sequence[Look]) -> dict[str, Any]:
    """The intact network with batch norm: penalty and norm of conv1 through time, and of all layers."""

    def held(name: str, layer: str, first: float, last: float) -> float | None:
        return mean(float(getattr(each, name)[layer].mean()) for each in looks if first <= each.step <= last)

    end = looks[-1].step
    settled = {layer: over(held("mrp", layer, 0.8 * end, end), held("mrp", layer, 2000, 4000)) for layer in LAYERS}
    grown = {layer: over(held("mrp", layer, 2000, 2000), held("mrp", layer, 100, 100)) for layer in LAYERS}
    norms = {layer: over(held("incoming", layer, end, end), held("incoming", layer, 0, 100)) for layer in LAYERS}
    return {
        "mrp_settled": settled["conv1"], "mrp_growth": grown["conv1"], "norm_growth": norms["conv1"],
        "mrp_settled_by_layer": list(settled.values()), "mrp_growth_by_layer": list(grown.values()),
    }  # fmt: skip


def _ranks(found: Sequence[Outcome], intact: Mapping[str, Sequence[Look]]) -> dict[str, Any]:
    """How saliency, output gradient and norm rank the units of a layer as the penalty does, at the end of each copy."""
    names = ("mrs", "output_gradient", "incoming")
    every = {
        network: [looks[-1], *(each.looks[-1] for each in found if each.run.network == network)]
        for network, looks in intact.items()
    }
    means: dict[str, list[float | None]] = {}
    smallest: list[float | None] = []
    chosen: list[float | None] = []
    for looks in every.values():
        for layer in LAYERS:
            for name in names:
                rhos = [rho(look.mrp[layer], getattr(look, name)[layer]) for look in looks]
                means.setdefault(name, []).append(mean(rhos))
            picked = [(look.mrp[layer], float(look.mrp[layer][look.mrs[layer].argmin()])) for look in looks]
            smallest.append(mean(own <= float(penalties.min()) for penalties, own in picked))
            chosen.append(mean(own / float(penalties.median()) for penalties, own in picked))
    overall = {name: mean(values) for name, values in means.items()}
    big = [each for each in found if _quarter(each, "mrp", False) and _quarter(each, "incoming", True)]
    return {
        "mrs_rho": means["mrs"], "mrs_rho_of": [f"{network} {layer}" for network in every for layer in LAYERS],
        "smallest_agrees": mean(smallest), "smallest_agrees_by_layer": smallest, "smallest_over_median": mean(chosen),
        "smallest_run_agrees": _smallest_run(found), "mean_rho": overall,
        "mrs_over_gradient": less(overall["mrs"], overall["output_gradient"]),
        "mrs_over_norm": less(overall["mrs"], overall["incoming"]),
        "low_penalty_big_norm": len(big),
    }  # fmt: skip


def _smallest_run(found: Sequence[Outcome]) -> float | None:
    """How often, of the runs of one unit with batch norm, that with the smallest saliency has the smallest penalty."""
    agrees = []
    for name in ("starts", "multipliers"):
        for layer in ("conv1", "conv2"):
            runs = [o for o in found if (o.run.set, o.run.network, o.run.layer) == (name, "norm", layer)]
            if len(runs) > 1:
                agrees.append(min(runs, key=lambda o: o.ratio("mrs")) is min(runs, key=lambda o: o.q))
    return mean(agrees)


def _quarter(each: Outcome, name: str, top: bool) -> bool:
    """Whether the attacked unit lies in the lowest or the top quarter of its layer."""
    values = getattr(each.looks[-1], name)[each.run.layer]
    own = values[each.run.unit]
    before = int((values > own).sum() if top else (values < own).sum())
    return before < len(values) / 4


def _killed(each: Sequence[Outcome]) -> dict[str, Any]:
    """What an attack that killed (q < 0.5) did to the unit with batch norm."""
    killed = [o for o in each if o.q < 0.5]

    def log_ratio(name: str) -> float | None:
        return mean(math.log(max(o.ratio(name), LOWEST)) for o in killed)

    return {
        "killed_weights": log_ratio("incoming"),
        "killed_outgoing": log_ratio("outgoing"),
        "killed_gradient": log_ratio("output_gradient"),
        "killed_entropy": mean(entropy_change(*o.values("consumer")) for o in killed),
    }


def entropy_change(attacked: Tensor, intact: Tensor) -> float:
    """The entropy (nats) of a histogram of attacked values less that of intact ones, each over its own range.

    Values squeezed to one edge by a long tail lie in few of the bins.

    Args:
        attacked: (n,).
        intact: (n,).
    """

    def entropy(values: Tensor) -> float:
        counts = np.histogram(values.double().numpy(), BINS)[0]
        return float(stats.entropy(counts))

    return entropy(attacked) - entropy(intact)


def _starts(each: Sequence[Outcome], intact: Mapping[str, Sequence[Look]]) -> dict[str, Any]:
    """Attacks of the same unit from different steps on: penalties, and norms against gradients, at a common end."""
    ratios, taus, rhos = [], [], []
    for layer in ("conv1", "conv2"):
        runs = sorted((o for o in each if o.run.layer == layer), key=lambda o: o.run.start)
        if len(runs) < 3:
            continue
        q = [max(o.q, LOWEST) for o in runs]
        ratios.append(max(q) / min(q))
        taus.append(float(stats.kendalltau([o.run.start for o in runs], q).statistic))
        ends = [*(o.looks[-1] for o in runs), runs[0].intact[-1]]
        rhos.append(
            rho(*(torch.stack([getattr(e, n)[layer][0] for e in ends]) for n in ("incoming", "output_gradient")))
        )
    return {"start_ratios": ratios or None, "start_tau": mean(taus), "weights_gradient_rho": mean(rhos)}


def _multipliers(each: Sequence[Outcome], s: Attacks) -> dict[str, Any]:
    taus, q = [], []
    for layer in ("conv1", "conv2"):
        runs = sorted((o for o in each if o.run.layer == layer), key=lambda o: o.run.multiplier)
        if len(runs) > 1:
            taus.append(float(stats.kendalltau([o.run.multiplier for o in runs], [o.q for o in runs]).statistic))
            q.append([digits(o.q) for o in runs])
    return {"multiplier_tau": mean(taus), "multiplier_q": q, "multipliers": list(s.multipliers)}


def _tanh(sets: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """Saturation of Tanh units, and how it depends on the start for the unit of fc1."""
    late = sets.get("late tanh", ())
    rises = [saturation(o.values("consumer")[0]) - saturation(o.values("consumer")[1]) for o in late]
    starts = sorted((o for o in sets.get("starts tanh", ()) if o.run.layer == "fc1"), key=lambda o: o.run.start)
    found = {"tanh_below_1": mean(o.q < 1 for o in late), "tanh_saturation_rise": mean(rises)}
    if len(starts) < 2:
        return {**found, "tanh_early_log_q": None, "tanh_early_fades": None, "tanh_later_saturation": None}
    first, later = starts[0], starts[1:]
    at = min(range(len(first.looks)), key=lambda i: abs(first.looks[i].step - 500))
    same = min(range(len(first.looks)), key=lambda i: abs(first.looks[i].step - later[0].run.end))
    own = saturation(first.looks[same].values["fc1"][first.run.unit]["consumer"])
    early = math.log(max(first.ratio("mrp", at), LOWEST))
    return {
        **found,
        "tanh_early_log_q": early,
        "tanh_early_fades": first.log_q - early,
        "tanh_later_saturation": less(mean(saturation(o.values("consumer")[0]) for o in later), own),
    }


def saturation(values: Tensor) -> float:
    """The share of activations beyond 0.95 on either side."""
    return float((values.abs() > 0.95).double().mean())


def _relu(sets: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """ReLU units that die, survivors' widths, and what becomes of the other units of a layer."""
    every = [*sets.get("late relu", ()), *sets.get("mild relu", ())]
    second = [o for o in every if o.run.layer == "conv2"]
    dead = [o for o in second if o.q < 0.01 and _all_negative(o)]
    widths = [o.ratio("width") for o in second if o.q >= 0.01]
    others = []
    for o in every:
        if o.q > 1:
            attacked, intact = (float(e[-1].mrp[o.run.layer].sum() - e[-1].mrp[o.run.layer][o.run.unit])
                                for e in (o.looks, o.intact))  # fmt: skip
            others.append(math.log(attacked / intact))
    return {
        "relu_conv2_dead": len(dead) if second else None,
        "relu_conv2_width": float(np.median(widths)) if widths else None,
        "others_log_ratio": mean(others),
    }


def _all_negative(each: Outcome) -> bool:
    return float((each.values("producer")[0] < 0).double().mean()) >= 0.999


def _between(sets: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """The same attack in three networks."""
    killed = {name: mean(o.q < 0.5 for o in sets.get(f"late {name}", ())) for name in ("norm", "tanh", "relu")}
    logs = {name: mean(o.log_q for o in sets.get(f"late {name}", ())) for name in killed}
    nearer = None
    if None not in logs.values():
        norm, tanh, relu = (float(each or 0) for each in logs.values())
        nearer = abs(norm - tanh) - abs(norm - relu)
    return {
        "relu_killed_less_norm": less(killed["relu"], killed["norm"]),
        "relu_killed_less_tanh": less(killed["relu"], killed["tanh"]),
        "relu_gained": [mean(o.q > 1 for o in sets[name]) for name in ("late relu", "mild relu") if name in sets],
        "norm_distance_tanh_less_relu": nearer,
    }
