"""Numbers by which the claims of the experiment `mnist20` are judged, from its curves."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from typing import Any

from deadhead.lab.measures.curves import LOSS, Curve, Subject, Unit
from deadhead.progress import Progress
from deadhead.select.brute_force.oracle import oracle

PAPER = ("brute force", "linear", "quadratic")
SHORT = {"brute force": "brute", "linear": "linear", "quadratic": "quadratic"}
Ways = Mapping[str, Curve]


def of_two_networks(single: Mapping[str, Ways], ranked: Mapping[str, Ways], again: Ways) -> dict[str, Any]:
    """What a single ranking and re-ranking give on one layer and on two.

    Args:
        single: curves of the single ranking, by network ("one", "two") and way.
        ranked: the same with re-ranking.
        again: a single ranking of another network of one layer.
    """
    found: dict[str, Any] = {}
    for name in ("one", "two"):
        for way, short in SHORT.items():
            once, often = single[name][way].free_by_accuracy(), ranked[name][way].free_by_accuracy()
            found[f"free_{name}_{short}"], found[f"free_single_{name}_{short}"] = often, once
            found[f"re_ranking_gain_{name}_{short}"] = often - once
            found[f"flat_{name}_{short}"] = ranked[name][way].free_by_error()
        log = {way: curve.mean_log_error() for way, curve in ranked[name].items()}
        found[f"quadratic_less_linear_{name}"] = log["quadratic"] - log["linear"]
        for way in ("quadratic, mean threshold", "quadratic, median threshold", "exact quadratic"):
            if way in log:
                found[f"{way} less quadratic, {name}"] = log[way] - log["quadratic"]
        found[f"last_layer_{name}"] = {way: from_last_layer(curve) for way, curve in ranked[name].items()}
    for short in SHORT.values():
        found[f"two_less_one_single_{short}"] = found[f"free_single_two_{short}"] - found[f"free_single_one_{short}"]
    for way, short in SHORT.items():
        found[f"lowest_single_{short}"] = [float(_lowest(ways) == way) for ways in (single["one"], again)]
    found["brute_last_layer"] = found["last_layer_two"]["brute force"]
    found["taylor_last_layer"] = [found["last_layer_two"][way] for way in ("linear", "quadratic")]
    return found | _against_linear(ranked)


def _against_linear(ranked: Mapping[str, Ways]) -> dict[str, Any]:
    """How quadratic estimates do beside linear ones along the way."""
    errors = zip(ranked["one"]["quadratic"].error[1:], ranked["one"]["linear"].error[1:], strict=True)
    found: dict[str, Any] = {"quadratic_lower_one": statistics.fmean(parabola < line for parabola, line in errors)}
    line, parabola = ranked["two"]["linear"], ranked["two"]["quadratic"]
    fifth = line.total // 5
    found["quadratic_less_linear_two_late"] = parabola.mean_log_error(fifth + 1) - line.mean_log_error(fifth + 1)
    found["quadratic_less_linear_two_early"] = parabola.mean_log_error(1, fifth + 1) - line.mean_log_error(1, fifth + 1)
    gaps = [abs(q - x) for q, x in zip(parabola.accuracy[1 : fifth + 1], line.accuracy[1 : fifth + 1], strict=True)]
    found["accuracy_gap_two_early"] = statistics.fmean(gaps)
    return found


def of_widths(brute: Ways, ranked: Mapping[str, Ways]) -> dict[str, Any]:
    """Brute force by depth and by width.

    Args:
        brute: curves of the networks "three" (layers), "narrow" and "wide" (one layer).
        ranked: those of "one" and "two" layers, by way.
    """
    depths = [ranked["one"]["brute force"], ranked["two"]["brute force"], brute["three"]]
    free = [curve.free_by_accuracy() for curve in depths]
    widths = [brute["narrow"], ranked["one"]["brute force"], brute["wide"]]
    left = [round((1 - curve.free_by_accuracy()) * curve.total) for curve in widths]
    return {
        "free_by_depth": free,
        "held_free_by_depth": [curve.free_by_accuracy(held=True) for curve in depths],
        "start_by_depth": [curve.accuracy[0] for curve in depths],
        "second_layer_costs": free[1] - free[0],
        "third_layer_costs": free[2] - free[1],
        "units_by_width": [curve.total for curve in widths],
        "left_by_width": left,
        "left_wide_by_narrow": left[2] / left[0],
    }


def of_tasks(tasks: Mapping[str, Ways]) -> dict[str, Any]:
    """How the paper's ways do on all of its tasks."""
    classes = [name for name, ways in tasks.items() if ways["brute force"].accuracy]
    learned = [name for name in classes if name != "diamond"]  # what section 5 says of MNIST
    free = [tasks[name]["brute force"].free_by_accuracy() for name in learned]
    leads = []
    for ways in tasks.values():
        taylor = min(ways[way].mean_log_error() for way in ("linear", "quadratic"))
        leads.append(taylor - ways["brute force"].mean_log_error())
    flat = {way: [ways[way].free_by_error() for ways in tasks.values()] for way in PAPER}
    cosine = tasks["cosine"]
    return {
        "tasks": list(tasks),
        "flat_by_task": flat,
        "brute_free_by_task": free,
        "brute_free_mean": statistics.fmean(free),
        "linear_flat_median": statistics.median(flat["linear"]),
        "quadratic_flat_median": statistics.median(flat["quadratic"]),
        "brute_leads": leads,
        "quadratic, mean threshold less quadratic, cosine": cosine["quadratic, mean threshold"].mean_log_error()
        - cosine["quadratic"].mean_log_error(),
    }


def of_part(name: str, subject: Subject, whole: Curve, part: int, progress: Progress | None) -> dict[str, Any]:
    """What brute force loses where a part of the images decides, and whether parallel search gives the same order.

    Args:
        name: of the network among results.
        subject: the network with all of its data.
        whole: brute force's curve where all images decide.
        part: how many images decide.
        progress: called on the way.
    """
    few = Subject(subject.task, decide_on=part)
    curve = few.curve(few.order("oracle", progress=progress))
    inputs, targets = subject.task.data[0]
    batches = list(zip(inputs.chunk(4), targets.chunk(4), strict=True))
    orders = [
        oracle(subject.network, batches, loss=LOSS, remove=min(30, subject.total // 2), samples=None, workers=workers)
        for workers in (1, 2)
    ]
    return {
        f"part_loses_{name}": whole.free_by_accuracy() - curve.free_by_accuracy(),
        f"free_part_{name}": curve.free_by_accuracy(),
        f"parallel_differs_{name}": _differ(orders[0].order, orders[1].order),
        f"part_differs_{name}": _differ(whole.order, curve.order),
    }


def from_last_layer(curve: Curve) -> float:
    """Share of the first half of the removed units that come from the last hidden layer.

    >>> from_last_layer(Curve(4, 1.0, layers=[1, 0, 0, 0]))
    0.5
    """
    first = curve.layers[: curve.total // 2]
    return sum(layer == max(curve.layers) for layer in first) / max(len(first), 1)


def _lowest(ways: Ways) -> str:
    return min(ways, key=lambda way: ways[way].mean_log_error())


def _differ(one: list[Unit], other: list[Unit]) -> int:
    """At how many places two orders differ."""
    return sum(a != b for a, b in itertools.zip_longest(one, other))
