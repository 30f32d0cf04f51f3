"""What watching costs: seconds of training with the watch as a ratio to plain training, in one run.

    python benchmarks/watching.py [--samples 64 128 1000] [--repeats 7] [--steps 200]

The network is the small CNN for CIFAR of Evci (2018), appendix C.2, with ReLU and max pool, batches of 32 random images,
SGD at 0.01. Plain and watched runs of `--steps` steps take turns; the ratio is that of the medians, of the time on the
clock and of the processor's, which other processes disturb less. The watch measures every 50 steps; a column with the penalty (MRP) at every 20th measurement and one with it at each stand beside.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from machine import print_machine
from torch import nn

from deadhead.training.watch import watch


def cifar_cnn() -> nn.Sequential:
    """Convs of 8 and 16 filters of 5x5, each with ReLU and max pool, then 64 hidden units."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 5), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(8, 16, 5), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(), fc1=nn.Linear(400, 64), relu3=nn.ReLU(), fc2=nn.Linear(64, 10),
        )
    )  # fmt: skip


def seconds(steps: int, watched: Callable[[nn.Module, torch.optim.Optimizer], Any]) -> tuple[float, float]:
    """The seconds of so many steps, by the clock and of the processor, without tracing and the measurement before the first step."""
    torch.manual_seed(0)
    model = cifar_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batches = [(torch.randn(32, 3, 32, 32), torch.randint(10, (32,))) for _ in range(10)]
    with watched(model, optimizer):
        start = (time.perf_counter(), time.process_time())
        for step in range(steps):
            inputs, targets = batches[step % len(batches)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    """The median by the clock and that of the processor."""
    clock, processor = zip(*times, strict=True)
    return statistics.median(clock), statistics.median(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 128, 1000])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    print_machine()
    kinds: dict[str, Callable[[nn.Module, torch.optim.Optimizer], Any]] = {
        "plain": lambda model, optimizer: nullcontext(),
        "adjustments only": watch,
    }
    for samples in asked.samples:
        probe = [(torch.randn(samples, 3, 32, 32), torch.randint(10, (samples,)))]
        for name, mrp_every in (("no MRP", None), ("MRP every 20th", 20), ("MRP each", 1)):
            kinds[f"{samples} samples, {name}"] = lambda model, optimizer, probe=probe, mrp_every=mrp_every: watch(
                model, optimizer, data=probe, loss="cross_entropy", every=50, mrp_every=mrp_every,
                samples=len(probe[0][0]),
            )  # fmt: skip
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for _ in range(asked.repeats):
        for name, watched in kinds.items():
            times[name].append(seconds(asked.steps, watched))
    plain = medians(times["plain"])
    print(
        f"{asked.steps} steps, median of {asked.repeats}: ms a step, ratio by the clock, ratio of the processor's time"
    )
    for name, found in times.items():
        clock, processor = medians(found)
        print(f"{name:30} {1e3 * clock / asked.steps:7.3f}  {clock / plain[0]:6.3f}  {processor / plain[1]:6.3f}")


if __name__ == "__main__":
    main()
