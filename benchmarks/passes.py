"""The time of criteria and statistics, as multiples of plain passes over the same data in the same run.

    python benchmarks/passes.py

`mrs` against a plain forward and backward pass, statistics for least squares (one pass, all consumers) against a plain
forward pass, for a network of ResNet-18's shape on 512 images of 32x32; and the peak memory of both when there is ten
times the data. Medians of several runs.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from machine import print_machine
from networks import resnet18
from torch.nn import functional

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.gates.state import PrunedState
from deadhead.reconstruction.sums import grams
from deadhead.scores import Question
from deadhead.scores.criterion import ask

RUNS = 3
BATCH = 128
SAMPLES = 512


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float, float]:
    """Median seconds of each, run in turn, and the median of their ratios."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(RUNS)]
    one, two = (statistics.median(times) for times in zip(*pairs, strict=True))
    return one, two, statistics.median(b / a for a, b in pairs)


def images(samples: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(BATCH, 3, 32, 32, generator=generator), torch.randint(10, (BATCH,), generator=generator))
        for _ in range(samples // BATCH)
    ]


def peak_memory(samples: int, what: str) -> float:
    """Peak resident megabytes of a process of its own."""
    command = [sys.executable, __file__, what, str(samples)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(what: str, samples: int) -> None:
    model = resnet18(10, small=True).eval()
    network = dh.trace(model, torch.randn(2, 3, 32, 32))
    # Streamed: all samples are those of one batch, so that only the statistics could grow.
    one = as_batch(images(BATCH)[0])
    batches = [one] * (samples // BATCH)
    loss = as_loss("cross_entropy")
    if what == "mrs":
        ask(Question(PrunedState.of(network), network.groups, batches, loss), "mrs")
    else:
        weights = [site.weight for group in network.groups for site in group.consumers if site.weight]
        grams(Gates(network, loss), weights, batches)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    if len(sys.argv) > 1:
        measure_memory(sys.argv[1], int(sys.argv[2]))
        return
    print_machine()
    model = resnet18(10, small=True).eval()
    data = images(SAMPLES)
    network = dh.trace(model, data[0][0])
    batches = [as_batch(batch) for batch in data]
    loss = as_loss("cross_entropy")

    def forward() -> None:
        with torch.no_grad():
            for x, _ in data:
                model(x)

    def both() -> None:
        for x, y in data:
            model.zero_grad()
            functional.cross_entropy(model(x), y).backward()

    def mrs() -> None:
        ask(Question(PrunedState.of(network), network.groups, batches, loss), "mrs")

    def squares() -> None:
        weights = [site.weight for group in network.groups for site in group.consumers if site.weight]
        grams(Gates(network, loss), weights, batches)

    plain, ours, ratio = interleaved(both, mrs)
    print(f"mrs         {ours:7.2f} s   forward and backward {plain:7.2f} s   ratio {ratio:.2f}")
    plain, ours, ratio = interleaved(forward, squares)
    print(f"statistics  {ours:7.2f} s   forward              {plain:7.2f} s   ratio {ratio:.2f}")
    for what in ("mrs", "statistics"):
        small, large = peak_memory(2 * BATCH, what), peak_memory(20 * BATCH, what)
        print(f"peak memory of {what}: {small:.0f} MB over {2 * BATCH} samples, {large:.0f} MB over {20 * BATCH}")


if __name__ == "__main__":
    main()
