"""Pruning while training: Evci (2018), section 4.2, and what masks and watching cost per step.

    python benchmarks/while_training.py [prune] [faster] [overhead] [--seeds 5] [--epochs 10] [--processes 2]

`prune`: the CNN of 8-16-64 units on MNIST (20,522 parameters), SGD 0.01, batches of 32, 10 epochs; after epochs 2, 3, 4
and 5 a fraction of 0.1, 0.2, 0.4 and 0.6 of each layer's units is removed, floor(0.6 K) of K in the end, which leaves
4-7-26 units and 4,019 parameters. The document has 98.42 % for the pruned network and for its twin without pruning.
Test accuracy, mean and range over seeds, by criterion, with and without bias propagation, as masks that are cut in the
end or as a network that is cut as it goes; by how much the accuracy drops at the round after epoch 5; the seconds of an
epoch after the last round over those of the twin's, beside the share of multiply-adds that remains; the seconds of a
round. The rounds read 1,024 training samples. The same shapes trained from nothing for as long stand beside.

`faster`: the seconds of a step after a cut in place over those of the intact network, beside the share of multiply-adds
that remains, for the CNN of 8-16-64 units and for one of 64-128-256 channels at 28x28, where they are what costs.

`overhead`: the seconds of a step with masks, and with a watch at every 50 steps, over those of plain training, medians
of interleaved runs in one process.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
import time
from dataclasses import dataclass, field

import torch
from machine import print_machine
from torch import Tensor, nn

import deadhead as dh
from deadhead.lab.data import load
from deadhead.lab.models import small_cnn
from deadhead.lab.train import evaluate

FRACTIONS = {2: 0.1, 3: 0.2, 4: 0.4, 5: 0.6}
"""What is removed after which epoch: Evci (2018), table 4.2."""
UNITS = {"conv1": 8, "conv2": 16, "fc1": 64}
BATCH, RATE, READ = 32, 0.01, 1024


@dataclass(frozen=True)
class Way:
    """One way to prune while training."""

    name: str
    criterion: str | None = None
    compensate: str = "mean"
    cut: str = "end"


WAYS = (
    Way("twin, not pruned"),
    Way("mrs, means propagated", "mrs"),
    Way("mrs, zeros", "mrs", "zero"),
    Way("mrs, means, cut as it goes", "mrs", cut="as it goes"),
    Way("magnitude, means", "magnitude"),
    Way("magnitude, zeros", "magnitude", "zero"),
    Way("random, means", "random"),
    Way("obs, least squares", "obs", "least_squares"),
    Way("4-7-26 from nothing"),
)


@dataclass
class Run:
    """What one training gave."""

    way: str
    accuracy: float = 0.0
    parameters: int = 0
    drop: float = 0.0
    epochs: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    shares: tuple[int, ...] = ()


def schedule() -> dh.Schedule:
    """The schedule of table 4.2, in units that remain."""
    points = {
        epoch: {name: size - math.floor(fraction * size) for name, size in UNITS.items()}
        for epoch, fraction in FRACTIONS.items()
    }
    return dh.Schedule(points)


def train_once(way: Way, seed: int, epochs: int) -> Run:
    """Train, prune on the way, and measure on the test samples."""
    torch.set_num_threads(1)
    data = load("mnist")
    model: nn.Module = small_cnn(seed=seed)
    if way.name == "4-7-26 from nothing":
        model = from_nothing(model, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    order = torch.Generator().manual_seed(seed)
    calibration = torch.randperm(len(data.train_inputs), generator=torch.Generator().manual_seed(seed + 1))[:READ]
    batches = list(
        zip(data.train_inputs[calibration].split(256), data.train_targets[calibration].split(256), strict=True)
    )
    run, gradual = Run(way.name), None
    if way.criterion is not None:
        gradual = dh.Gradual(
            model, optimizer, batches, loss="cross_entropy", schedule=schedule(), criterion=way.criterion, cut=way.cut,
            compensate=way.compensate, samples=READ,
        )  # fmt: skip
    model.train()
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        for index in torch.randperm(len(data.train_inputs), generator=order).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train_inputs[index]), data.train_targets[index]).backward()
            optimizer.step()
            if gradual is not None:
                gradual.step()
        run.epochs.append(time.perf_counter() - start)
        if gradual is not None and epoch in FRACTIONS:
            before = evaluate(model, data.test_inputs, data.test_targets)[1]
            gradual.epoch()
            run.rounds.append(gradual.rounds[-1].seconds)
            run.drop = before - evaluate(model, data.test_inputs, data.test_targets)[1]
        elif gradual is not None:
            gradual.epoch()
    if gradual is not None:
        model = gradual.finish().model
        run.shares = tuple(getattr(model, name).weight.shape[0] for name in UNITS)
    run.accuracy = evaluate(model, data.test_inputs, data.test_targets)[1]
    run.parameters = sum(parameter.numel() for parameter in model.parameters())
    return run


def _train_once(job: tuple[Way, int, int]) -> Run:
    return train_once(*job)


def from_nothing(model: nn.Module, seed: int) -> nn.Module:
    """A new network in the shapes that the schedule leaves."""
    masks = dh.Masks(model, None, example=torch.zeros(2, 1, 28, 28))
    masks.close({name: list(range(size - math.floor(0.6 * size), size)) for name, size in UNITS.items()})
    smaller = masks.cut().model
    torch.manual_seed(seed)
    for module in smaller.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.reset_parameters()
    return smaller


def prune(seeds: int, epochs: int, processes: int) -> None:
    """Print the table of section 4.2."""
    load("mnist")
    jobs = [(way, seed, epochs) for seed in range(seeds) for way in WAYS]
    runs, start = list[Run](), time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for run in pool.imap(_train_once, jobs):
            runs.append(run)
            remaining = (time.perf_counter() - start) / len(runs) * (len(jobs) - len(runs))
            print(f"{len(runs)} of {len(jobs)}: {run.way}, about {remaining:.0f} s remain", file=sys.stderr, flush=True)
    print(f"MNIST, 8-16-64 units, {epochs} epochs, {seeds} seeds; the document: 98.42 % with 4,019 parameters")
    print(f"{'':28}{'parameters':>11}{'test accuracy, range':>28}{'drop at 0.6':>13}{'epoch / twin':>13}{'round':>9}")
    twins = [run for run in runs if run.way == WAYS[0].name]
    for way in WAYS:
        mine = [run for run in runs if run.way == way.name]
        values = [100 * run.accuracy for run in mine]
        shown = f"{statistics.mean(values):.2f} ({min(values):.2f}-{max(values):.2f})"
        ratio = statistics.median(late(run) / late(twin) for run, twin in zip(mine, twins, strict=True))
        rounds = (
            f"{statistics.median(seconds for run in mine for seconds in run.rounds):.2f} s" if mine[0].rounds else ""
        )
        drop = f"{100 * statistics.mean(run.drop for run in mine):.2f}" if mine[0].rounds else ""
        print(f"{way.name:28}{mine[0].parameters:>11,}{shown:>28}{drop:>13}{ratio:>13.2f}{rounds:>9}")
    print(f"a twin's epoch: {statistics.median(seconds for run in twins for seconds in run.epochs):.1f} s")


def late(run: Run) -> float:
    """The seconds of an epoch after the last round."""
    return statistics.median(run.epochs[max(FRACTIONS) :] or run.epochs[-1:])


def batch() -> tuple[Tensor, Tensor]:
    """Fresh samples, so that the loss remains what it is in training."""
    return torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))


def wide_mlp() -> nn.Module:
    """784-1000-1000-10: nearly all of its cost is reading weights."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10)
    )


def wide_cnn() -> nn.Module:
    """Three convolutions of 64, 128 and 256 channels with batch norm, at 28x28: multiply-adds are what costs."""
    layers: list[nn.Module] = []
    for left, right in ((1, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(left, right, 3, padding=1), nn.BatchNorm2d(right), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 9, 10))


def faster(repeats: int) -> None:
    """Print the seconds of a step after a cut in place over those of the intact network."""
    print(f"{'units that remain':32}{'multiply-adds':>14}{'step, SGD with momentum':>26}")
    for name, make in (("8-16-64 CNN", lambda: small_cnn(seed=0)), ("64-128-256 CNN", wide_cnn)):
        for share in (0.75, 0.5, 0.25):
            networks = [make(), make()]
            optimizers = [torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9) for network in networks]
            masks = dh.Masks(networks[1], optimizers[1], example=batch()[0])
            masks.prune([batch()], loss="cross_entropy", units=share)
            report = masks.cut(inplace=True).report
            seconds = interleaved(networks, optimizers, repeats, steps=5)
            ratio = statistics.median(after / before for before, after in zip(*seconds, strict=True))
            macs = report.after.macs / report.before.macs
            print(f"{f'{name}, {share:.0%}':32}{macs:>14.2f}{ratio:>26.2f}")


def overhead(repeats: int) -> None:
    """Print the seconds of a step over those of plain training."""
    print(f"{'seconds of a step over plain training':44}{'units closed':>14}{'weights closed':>16}{'watch':>8}")
    for name, make in (("8-16-64 CNN", lambda: small_cnn(seed=0)), ("784-1000-1000-10", wide_mlp)):
        for kind in (torch.optim.SGD, torch.optim.AdamW):
            networks = [make() for _ in range(4)]
            optimizers = [kind(network.parameters(), lr=1e-3) for network in networks]
            held = [
                dh.Masks(network, optimizer, example=batch()[0])
                for network, optimizer in zip(networks[1:3], optimizers[1:3], strict=True)
            ]
            held[0].close({group.name: range(group.size * 6 // 10) for group in held[0].network.groups})
            held[1].prune(weights=0.2)
            probe = torch.randn(64, 1, 28, 28), torch.randint(10, (64,))
            with dh.watch(networks[3], optimizers[3], data=[probe], loss="cross_entropy", every=50, warn_above=1.0):
                seconds = interleaved(networks, optimizers, repeats)
            ratios = [
                statistics.median(mine / plain for mine, plain in zip(each, seconds[0], strict=True))
                for each in seconds[1:]
            ]
            label = f"{name}, {kind.__name__}, {20 * statistics.median(seconds[0]):.2f} ms"
            print(f"{label:44}{ratios[0]:>14.3f}{ratios[1]:>16.3f}{ratios[2]:>8.3f}")


def interleaved(
    networks: list[nn.Module], optimizers: list[torch.optim.Optimizer], repeats: int, steps: int = 50
) -> list[list[float]]:
    """The seconds of so many steps of each network, one after the other, repeated."""
    seconds: list[list[float]] = [[] for _ in networks]
    for _ in range(repeats):
        batches = [batch() for _ in range(steps)]
        for place, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            start = time.perf_counter()
            for inputs, targets in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs), targets).backward()
                optimizer.step()
            seconds[place].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["prune", "faster", "overhead"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    if "prune" in chosen.parts:
        prune(chosen.seeds, chosen.epochs, chosen.processes)
    if "faster" in chosen.parts:
        faster(chosen.repeats)
    if "overhead" in chosen.parts:
        overhead(chosen.repeats)


if __name__ == "__main__":
    main()
