"""Seconds to trace and to find the units, beside Torch-Pruning's dependency graph in the same run.

    python benchmarks/tracing.py

Torch-Pruning is omitted where it is not installed (pip install --no-deps torch-pruning). Medians of several runs.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from machine import print_machine
from networks import DenseNet, resnet18, resnet50
from torch import nn

import deadhead as dh
from deadhead.graph.trace import trace_program
from deadhead.graph.units.groups import find_units

RUNS = 5


def seconds(run: Callable[[], object]) -> float:
    """The median of `RUNS` runs, after one that does not count."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def peer(model: nn.Module, x: torch.Tensor) -> float | None:
    """Torch-Pruning: build the graph and list all groups."""
    if importlib.util.find_spec("torch_pruning") is None:
        return None
    import torch_pruning

    def run() -> None:
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=x)
        list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))

    return seconds(run)


def main() -> None:
    print_machine()
    print(f"{'network':14}{'export':>9}{'labels':>9}{'ratio':>8}{'trace+units':>13}{'Torch-Pruning':>15}  groups")
    x = torch.randn(1, 3, 224, 224)
    for name, build in (("ResNet-18", resnet18), ("ResNet-50", resnet50), ("DenseNet-201", DenseNet)):
        model = build().eval()
        network = dh.trace(model, x)
        exporting = seconds(lambda model=model: trace_program(model, x, 0, free=None))
        labelling = seconds(lambda network=network: find_units(network.static.graph, network.state()))
        both = seconds(lambda model=model: dh.trace(model, x))
        other = peer(model, x)
        shown = "not installed" if other is None else f"{other:.2f} s"
        print(
            f"{name:14}{exporting:7.2f} s{labelling:7.2f} s{labelling / exporting:8.2f}{both:11.2f} s{shown:>15}  "
            f"{len(network.groups)}"
        )


if __name__ == "__main__":
    main()
