"""What watching costs: the time of a training step with the watch as a ratio to plain training, in one run.

    python benchmarks/watching.py [--samples 64 128 1000] [--repeats 40]

The network is the small CNN for CIFAR of Evci (2018), appendix C.2, with ReLU and max pool, on batches of 32 random
images, SGD at 0.01. Plain and watched blocks of 50 steps take turns; each watched block has one measurement. The ratio
is that of the fastest blocks, and of the fast quarter of them, of the processor's time: other processes make blocks
slower and never faster. The default of a penalty (MRP) at every 20th measurement costs a twentieth of the way from the
line without it to the line with it at each.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from machine import print_machine
from torch import nn

from deadhead.training.watching.watch import watch

EVERY = 50


def cifar_cnn() -> nn.Sequential:
    """Convs of 8 and 16 filters of 5x5, each with ReLU and max pool, then 64 hidden units."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 5), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(8, 16, 5), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(), fc1=nn.Linear(400, 64), relu3=nn.ReLU(), fc2=nn.Linear(64, 10),
        )
    )  # fmt: skip


def blocks(watched: Callable[[nn.Module, torch.optim.Optimizer], Any]) -> Iterator[float]:
    """The processor's seconds of one block of steps after another; tracing comes before the first."""
    torch.manual_seed(0)
    model = cifar_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batches = [(torch.randn(32, 3, 32, 32), torch.randint(10, (32,))) for _ in range(10)]
    with watched(model, optimizer):
        while True:
            start = time.process_time()
            for step in range(EVERY):
                inputs, targets = batches[step % len(batches)]
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
            yield time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 128, 1000])
    parser.add_argument("--repeats", type=int, default=40)
    asked = parser.parse_args()
    print_machine()
    kinds: dict[str, Callable[[nn.Module, torch.optim.Optimizer], Any]] = {
        "plain": lambda model, optimizer: nullcontext(),
        "adjustments only": watch,
    }
    for samples in asked.samples:
        probe = [(torch.randn(samples, 3, 32, 32), torch.randint(10, (samples,)))]
        for name, mrp_every in (("no MRP", None), ("MRP each", 1)):
            kinds[f"{samples} samples, {name}"] = lambda model, optimizer, probe=probe, mrp_every=mrp_every: watch(
                model, optimizer, data=probe, loss="cross_entropy", every=EVERY, mrp_every=mrp_every,
                samples=len(probe[0][0]),
            )  # fmt: skip
    running = {name: blocks(watched) for name, watched in kinds.items()}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(asked.repeats):
        for name, each in running.items():
            times[name].append(next(each))
    best = {name: (min(found), sorted(found)[len(found) // 4]) for name, found in times.items()}
    print(f"{asked.repeats} blocks of {EVERY} steps: ms a step, ratio of the fastest blocks, of the fast quarter")
    for name, (fastest, quarter) in best.items():
        ratios = f"{fastest / best['plain'][0]:6.3f}  {quarter / best['plain'][1]:6.3f}"
        print(f"{name:30} {1e3 * fastest / EVERY:7.3f}  {ratios}")


if __name__ == "__main__":
    main()
