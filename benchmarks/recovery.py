"""Training after a cut: which optimizer, learning rate, schedule and targets recover most, on the small CNN for MNIST.

    python benchmarks/recovery.py [--seeds 2] [--epochs 1 3]

The small CNN of Evci (2018), trained, pruned to 30 % of every group's units with deadhead's defaults on 2,500 samples,
then trained on all 60,000 with `deadhead.recover`, a tenth of them held out to choose the best epoch. Accuracy
and loss on the 10,000 test samples, the mean over seeds of training, pruning and recovery. `constant` and `cosine` say
how the learning rate goes, `labels` and `intact` what is learned: classes, or the intact network's outputs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics

import torch
from machine import print_machine
from torch import Tensor, nn
from torch.optim import Optimizer
from trained import CASES, Case, measured, say, trained

import deadhead as dh
from deadhead.training.recovering.recover import recover

RATES = {"AdamW": (1e-3, 3e-3, 1e-2), "SGD, momentum 0.9": (1e-2, 3e-2, 1e-1)}
WAYS = (("cosine", "labels"), ("cosine", "intact"), ("constant", "labels"))


def optimizer_of(name: str, parameters: list[Tensor], rate: float) -> Optimizer:
    if name == "AdamW":
        return torch.optim.AdamW(parameters, rate, weight_decay=0.0)
    return torch.optim.SGD(parameters, rate, momentum=0.9)


def pruned(case: Case, intact: nn.Module, seed: int) -> nn.Module:
    inputs, targets = (part[: case.calibration].split(500) for part in case.train)
    data = list(zip(inputs, targets, strict=True))
    return dh.prune(intact, data, loss=case.loss, units=0.3, curve=0, seed=seed).model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3])
    options = parser.parse_args()
    print_machine()
    case = CASES["mnist"]()
    assert case is not None
    tried = [(name, rate, *way) for name, rates in RATES.items() for rate in rates for way in WAYS]
    found: dict[object, list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        intact = trained("mnist", case, seed)
        start = pruned(case, intact, seed)
        found.setdefault("intact", []).append(measured(case, intact))
        found.setdefault("pruned", []).append(measured(case, start))
        for epochs, how in itertools.product(options.epochs, tried):
            name, rate, schedule, targets = how
            model = copy.deepcopy(start)
            trainer = optimizer_of(name, list(model.parameters()), rate)
            teacher = intact if targets == "intact" else None
            recover(
                model, case.train, epochs=epochs, targets=targets, intact=teacher, loss=case.loss, optimizer=trainer,
                schedule=schedule, seed=seed,
            )  # fmt: skip
            found.setdefault((epochs, *how), []).append(measured(case, model))
            say(f"seed {seed}, {epochs} epochs, {name} {rate:g}, {schedule}, {targets}")
    print(f"{'':52} accuracy    loss")
    for key, values in found.items():
        text = key if isinstance(key, str) else "{} epochs, {} {:g}, {}, {}".format(*key)  # type: ignore[misc]
        right, loss = (statistics.mean(each) for each in zip(*values, strict=True))
        print(f"{text:52} {100 * right:6.2f} % {loss:7.4f}")


if __name__ == "__main__":
    main()
