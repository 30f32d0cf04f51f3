"""The loss of quality when wide consumers are read on grids of positions instead of at all of them.

    DEADHEAD_DATA=... python benchmarks/sampling.py

The small CNN of Evci (2018) on MNIST, half of the units of every group, least squares front to back, no retraining:
test loss and accuracy when every consumer is read everywhere, and when all that have more than 16 columns are sampled
as wide ones are.
"""

from __future__ import annotations

import torch
from machine import print_machine

import deadhead as dh
from deadhead.graph.units import windows as columns
from deadhead.lab.data import mnist
from deadhead.lab.models import small_cnn
from deadhead.lab.train import MNIST, fit

SEEDS = (0, 1, 2)
BATCH = 256


def main() -> None:
    print_machine()
    split = mnist()
    test = list(zip(torch.split(split.test_inputs, 1000), torch.split(split.test_targets, 1000), strict=True))
    print(f"{'seed':>4}{'intact':>10}{'everywhere':>24}{'sampled':>24}")
    for seed in SEEDS:
        model = small_cnn(seed=seed)
        fit(model, split.train_inputs, split.train_targets, **{**MNIST, "seed": seed})
        rows = torch.randperm(60000, generator=torch.Generator().manual_seed(seed))[:4096]
        data = list(
            zip(
                torch.split(split.train_inputs[rows], BATCH), torch.split(split.train_targets[rows], BATCH), strict=True
            )
        )
        found = []
        for wide in (10**9, 16):
            columns.WIDE = wide
            report = dh.prune(model, data, loss="cross_entropy", units=0.5, test=test).report
            found.append(f"{report.after.loss:.4f} {100 * (report.after.accuracy or 0):.2f} %")
        print(f"{seed:4}{100 * (report.before.accuracy or 0):8.2f} %{found[0]:>24}{found[1]:>24}")


if __name__ == "__main__":
    main()
