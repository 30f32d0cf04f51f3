"""The time of each criterion, as a multiple of one forward and backward pass over the same data.

    python benchmarks/criteria.py

A plain pass is the user's own module, `cross_entropy(model(x), t).sum().backward()`, batch by batch. Criteria run on a
traced network, groups and replays known; medians of interleaved runs. The exact curvature and the oracle need a probe
or a pass for each unit, so they are timed on the small network alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from machine import print_machine
from networks import ResNet
from torch import Tensor, nn

import deadhead as dh
from deadhead.lab.models import small_cnn

RUNS = 5
CHEAP = (
    "magnitude",
    "random",
    "zeros",
    "activation_mean",
    "activation_std",
    "taylor1",
    "mrs",
    "mrs_positions",
    "taylor2",
)
DEAR = ("taylor2_gauss_newton", "taylor2_exact", "oracle", "mrp", "obs")


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def plain(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> None:
    for x, targets in data:
        model.zero_grad()
        F.cross_entropy(model(x), targets, reduction="sum").backward()
    model.zero_grad()


def show(name: str, model: nn.Module, data: list[tuple[Tensor, Tensor]], criteria: tuple[str, ...]) -> None:
    network = dh.trace(model.eval(), data[0][0][:2])
    units = sum(group.size for group in network.groups)
    runs = 1 if set(criteria) & set(DEAR) else RUNS

    def ask(criterion: str) -> None:
        dh.score(network, data, loss="cross_entropy", criterion=criterion, samples=None)

    for criterion in criteria:
        ask(criterion) if runs > 1 else None
    plain(model, data)
    taken: dict[str, list[float]] = {criterion: [] for criterion in criteria}
    base = []
    for _ in range(runs):
        base.append(seconds(lambda: plain(model, data)))
        for criterion in criteria:
            taken[criterion].append(seconds(lambda criterion=criterion: ask(criterion)))  # type: ignore[misc]
    unit = statistics.median(base)
    samples = sum(len(targets) for _, targets in data)
    print(f"{name}: {units:,} units, {samples} samples, forward and backward {unit * 1e3:.0f} ms")
    for criterion, times in taken.items():
        cost = statistics.median(times) / unit
        probes = f", {units} probes for each batch, {cost / units:.3f} each" if criterion == "taylor2_exact" else ""
        print(f"  {criterion:22}{cost:10.2f}{probes}")


def main() -> None:
    print_machine()
    torch.manual_seed(0)
    images, targets = torch.randn(1024, 1, 28, 28), torch.randint(10, (1024,))
    data = list(zip(images.split(256), targets.split(256), strict=True))
    show("small CNN of Evci (2018)", small_cnn(seed=0), data, CHEAP)
    show("small CNN of Evci (2018)", small_cnn(seed=0), data, DEAR)
    colours, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    many = list(zip(colours.split(64), labels.split(64), strict=True))
    show("ResNet-18's shape", ResNet((2, 2, 2, 2), False, classes=10, small=True), many, CHEAP)


if __name__ == "__main__":
    main()
