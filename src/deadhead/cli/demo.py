"""The demonstration: train, prune, show."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

import deadhead as dh
from deadhead.cli.resolve import batches, folder_for
from deadhead.errors import DataError
from deadhead.lab.data import digits, mnist
from deadhead.lab.models import digits_cnn, small_cnn
from deadhead.lab.train import DIGITS, MNIST, fit
from deadhead.report import print_report, progress_bars, write

SAMPLES = 4096


def run(data: str, units: float, out: Path, seed: int) -> None:
    """Train a small network on `data`, keep the fraction `units` of every group, and write the report to `out`."""
    folder = folder_for(out)
    if data not in ("digits", "mnist"):
        raise DataError(f"There is no demo data {data!r}; choose digits or mnist.")
    with progress_bars() as progress:
        if data == "digits":
            split, model, settings = digits(seed), digits_cnn(seed=seed), DIGITS
        else:
            split, model, settings = mnist(progress=progress), small_cnn(seed=seed), MNIST
        fit(model, split.train_inputs, split.train_targets, **{**settings, "seed": seed}, progress=progress)
        chosen = torch.randperm(len(split.train_inputs), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
        calibration = batches(split.train_inputs[chosen], split.train_targets[chosen])
        test = batches(split.test_inputs, split.test_targets)
        pruned = dh.prune(
            model,
            calibration,
            loss="cross_entropy",
            units=units,
            test=test,
            samples=SAMPLES,
            seed=seed,
            progress=progress,
        )
    print_report(pruned.report)
    page, numbers = write(pruned.report, folder)
    Console().print(f"wrote {page} and {numbers}")
