"""Accuracy and loss after units are removed without retraining: criteria, compensations and Torch-Pruning.

    python benchmarks/quality.py [mnist] [two] [one] [transformer] [cifar] [resnet20] [--seeds 3] [--after]

In one run, on the same trained weights: accuracy and loss on test samples where 75, 50 and 25 % of every group's units
remain, the mean over seeds of the training. All methods use the same 2,500 training samples (640 windows of
`transformer`, 1,000 of `resnet20`) and 5,000 test samples (10,000 of `mnist`, all windows of `transformer`, 1,000 of
`resnet20`). The first row is deadhead's default, the second the same without the Gauss-Newton steps. Torch-Pruning
(pip install --no-deps torch-pruning) gets the same ratio and gradients of the same samples, and does not prune the
outputs; in attention it removes dimensions of heads, deadhead whole heads.

`mnist`: the small CNN of Evci (2018). `cifar`: the same with three colours, on CIFAR-10 (JPEG). `one` and `two`:
400-100-10 and 400-50-50-10, sigmoid, squared error, on 5,000 images of MNIST at 20x20, the networks of Wolfe et al.
(2016); `two` has brute force too, the units in the order of `dh.oracle`, and the ratio of the loss to the intact one
where 50, 70 and 80 of 100 units are removed. `resnet20`: 16, 32 and 64 channels, batch norm, one epoch. `transformer`:
two layers of width 64 on the characters of the documents in `seeds` beside $DEADHEAD_DATA. For each network, the loss
of the largest even pruning with at most half of the parameters is printed beside that of a budget of as many; for
`mnist`, the pruned network's latency over that of a new one in its shapes.

With `--after`, each table again after some training: an epoch on `mnist`, `one` and `two`, and 100 steps on
`resnet20`, there for three methods and one seed. Trained weights are kept in ~/.cache/deadhead/benchmarks: delete them
to train again.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import importlib.util
import itertools
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from machine import print_machine
from torch import Tensor, nn
from trained import CASES, Case, Data, loss_of, measured, say, train, trained

import deadhead as dh
import deadhead.pruning.measure
from deadhead.lab.models import small_cnn

SHARES = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Trained:
    """A trained network, traced once, and the calibration data that all methods see."""

    case: Case
    model: nn.Module
    network: dh.Network
    data: list[Data]
    seed: int

    def prune(self, **options: object) -> dh.Pruned:
        return dh.prune(self.network, self.data, loss=self.case.loss, seed=self.seed, curve=0, **options)  # type: ignore[arg-type]


Method = Callable[[Trained, float], nn.Module]


def prepare(name: str, case: Case, seed: int) -> Trained:
    model = trained(name, case, seed)
    inputs, targets = (part[: case.calibration].split(500) for part in case.train)
    return Trained(case, model, dh.trace(model, inputs[0][:2]), list(zip(inputs, targets, strict=True)), seed)


def ours(criterion: str, compensate: str) -> Method:
    return lambda given, share: given.prune(units=share, criterion=criterion, compensate=compensate).model


def brute(compensate: str) -> Method:
    """The units that brute force removes first, as many in all as the other methods remove."""

    def method(given: Trained, share: float) -> nn.Module:
        groups = given.network.groups
        count = sum(group.size - max(1, round(share * group.size)) for group in groups)
        order = dh.oracle(given.network, given.data, loss=given.case.loss, remove=count)
        return given.prune(plan=order.plan(count), compensate=compensate).model

    return method


def squared_gradients(given: Trained) -> dict[str, Tensor]:
    """The sum over samples of the squared gradient of each parameter, as Torch-Pruning's Hessian importance needs it:
    its own `accumulate_grad` keeps that of the last sample alone (1.6.0)."""

    def loss(parameters: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return loss_of(given.case, torch.func.functional_call(given.model, parameters, x[None]), t[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    parameters = {name: parameter.detach() for name, parameter in given.model.named_parameters()}
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for inputs, targets in given.data:
        for x, t in zip(inputs.split(100), targets.split(100), strict=True):
            for name, gradient in gradients(parameters, x, t).items():
                total[name] += gradient.square().sum(0)
    return total


def theirs(kind: str) -> Method:
    """Torch-Pruning, with one of its importances."""

    def method(given: Trained, share: float) -> nn.Module:
        import torch_pruning as tp

        case, model = given.case, copy.deepcopy(given.model)
        importance = getattr(tp.importance, f"{kind}Importance")()
        if kind == "Taylor":
            for x, t in given.data:
                loss_of(case, model(x), t).backward()
        if kind == "Hessian":
            squares = squared_gradients(given)
            importance._accu_grad = {p: squares[n] for n, p in model.named_parameters()}
            importance._counter = dict.fromkeys(model.parameters(), sum(len(t) for _, t in given.data))
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
        modules = dict(model.named_modules())
        heads = {m: 4 for n, m in modules.items() if n.endswith((".query", ".key", ".value"))}
        pruner = tp.pruner.MetaPruner(
            model, given.case.train[0][:2], importance=importance, pruning_ratio=1 - share, num_heads=heads,
            ignored_layers=[module for name, module in modules.items() if case.ignored(name)],
        )  # fmt: skip
        pruner.step()
        model.zero_grad()
        return model

    return method


def methods(name: str) -> dict[str, Method]:
    found = {"deadhead's default": ours("obs", "gauss_newton"), "obs, least_squares": ours("obs", "least_squares")}
    if importlib.util.find_spec("torch_pruning") is not None:
        found |= {f"Torch-Pruning, {kind}": theirs(kind) for kind in ("Magnitude", "Taylor", "Hessian")}
    if name == "two":
        found |= {f"brute force, {compensate}": brute(compensate) for compensate in ("zero", "gauss_newton")}
    criteria = ("mrs", "taylor1", "magnitude", "activation_std", "random")
    for compensate, criterion in itertools.product(("least_squares", "mean", "zero"), criteria):
        found[f"{criterion}, {compensate}"] = ours(criterion, compensate)
    return found


def mean(networks: Sequence[Trained], models: Sequence[nn.Module]) -> list[float]:
    """The mean accuracy and loss on the test samples, over the seeds."""
    found = [measured(given.case, model) for given, model in zip(networks, models, strict=True)]
    return [statistics.mean(column) for column in zip(*found, strict=True)]


def table(networks: Sequence[Trained], asked: dict[str, Method], after: int = 0) -> None:
    """A row for each method: accuracy, then loss, at each share."""
    heads = "".join(f"{share:9.0%}" for share in SHARES)
    print(f"  {'remaining units: accuracy, loss':30}{heads}    {heads}")
    for label, method in asked.items():
        start = time.perf_counter()
        found = []
        try:
            for share in SHARES:
                models = [method(given, share) for given in networks]
                for given, model in zip(networks, models, strict=True) if after else ():
                    train(given.case, model, after, given.case.rate / 4, True, 10 + given.seed)
                found.append(mean(networks, models))
        except Exception as error:  # the other methods have results
            print(f"  {label:30}{type(error).__name__}: {str(error).strip().splitlines()[0][:90]}", flush=True)
            continue
        accuracies, losses = "".join(f"{x:9.2%}" for x, _ in found), "".join(f"{x:9.4f}" for _, x in found)
        print(f"  {label:30}{accuracies}    {losses}", flush=True)
        say(f"  {label}: {time.perf_counter() - start:.1f} s")


def ratios(given: Trained) -> None:
    """The ratio of the loss to the intact one after some removals, by brute force and by the default."""
    total = sum(group.size for group in given.network.groups)
    order = dh.oracle(given.network, given.data, loss=given.case.loss, remove=total * 4 // 5)
    both = (given.case.train, given.case.test)
    intact = [measured(given.case, given.model, data)[1] for data in both]
    print(f"  ratio of the loss to the intact one, on the training and the test samples, seed {given.seed}")
    for removed in (total // 2, total * 7 // 10, total * 4 // 5):
        print(f"    {removed} of {total} removed:", end="")
        ways: dict[str, dict[str, Any]] = {
            "brute force": {"plan": order.plan(removed), "compensate": "zero"},
            "brute force, gauss_newton": {"plan": order.plan(removed)},
            "default": {"units": total - removed, "scope": "all"},
            "default, even": {"units": (total - removed) / total},
        }
        for label, options in ways.items():
            model = given.prune(**options).model
            found = [measured(given.case, model, data)[1] / base for data, base in zip(both, intact, strict=True)]
            print(f"  {label} {found[0]:.2f} {found[1]:.2f}", end="")
        print(flush=True)


def spread(given: Trained) -> None:
    """About half of the parameters, evenly and by a budget of as many."""
    low, high = 0.0, 1.0  # the largest even share that has at most half of the parameters
    for _ in range(8):
        middle = (low + high) / 2
        made = given.prune(units=middle, criterion="random", compensate="zero").report
        low, high = (middle, high) if made.after.parameters <= made.before.parameters / 2 else (low, middle)
    even = given.prune(units=low)
    one = given.prune(params=even.report.after.parameters)
    print(f"  the parameters of an even half, seed {given.seed}")
    for label, pruned in ((f"even, units={low:.3f}", even), ("by budget", one)):
        accuracy, loss = measured(given.case, pruned.model)
        kept = " ".join(f"{group.kept}/{group.units}" for group in pruned.report.groups)
        size = f"{pruned.report.after.parameters:,} of {pruned.report.before.parameters:,} parameters"
        print(f"    {label}: {size}, accuracy {accuracy:.2%}, loss {loss:.4f}; units {kept}", flush=True)


def latency(given: Trained) -> None:
    """The latency of the pruned network beside that of a new one in the same shapes, run in turns."""
    pruned, fresh = given.prune(units=0.5).model, small_cnn().eval()
    for name, layer in pruned.named_children():
        if isinstance(layer, nn.Conv2d):
            setattr(fresh, name, nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size))
        if isinstance(layer, nn.Linear):
            setattr(fresh, name, nn.Linear(layer.in_features, layer.out_features))
    inputs = given.case.test[0][:100]
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for _ in range(200):
            for model, taken in zip((pruned, fresh), seconds, strict=True):
                start = time.perf_counter()
                model(inputs)
                taken.append(time.perf_counter() - start)
    ours, theirs = (statistics.median(taken) for taken in seconds)
    print(f"  latency at half of the units: {ours * 1e3:.2f} ms, {ours / theirs:.3f} times that of a new one as large")


def show(name: str, seeds: int, after: bool) -> None:
    case = CASES[name]()
    if case is None:
        return
    networks = [prepare(name, case, seed) for seed in range(seeds)]
    groups = networks[0].network.groups
    accuracy, loss = mean(networks, [given.model for given in networks])
    units = f"{sum(group.size for group in groups)} units in {len(groups)} groups"
    print(f"{name}: {units}, {len(case.test[0])} test samples, {seeds} seeds; ", end="")
    print(f"intact: accuracy {accuracy:.2%}, loss {loss:.4f}", flush=True)
    asked = methods(name)
    table(networks, asked)
    spread(networks[0])
    if name == "two":
        ratios(networks[0])
    if name == "mnist":
        latency(networks[0])
    if after and case.after:
        if name == "resnet20":
            networks = networks[:1]
            few = ("deadhead's default", "mrs, zero", "Torch-Pruning, Taylor")
            asked = {label: method for label, method in asked.items() if label in few}
        print(f"  after {case.after} steps of training at batches of {case.batch}")
        table(networks, asked, case.after)


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy and loss after units are removed without retraining.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; all without")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--after", action="store_true", help="also after some training")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in CASES]
    if unknown:
        sys.exit(f"There is no network {', '.join(unknown)}; the networks are {', '.join(CASES)}.")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    deadhead.pruning.measure.LATENCY_SECONDS = 1e-3  # the report's latency is not used here
    print_machine()
    if importlib.util.find_spec("torch_pruning") is not None:
        print(f"Torch-Pruning {importlib.metadata.version('torch-pruning')}")
    for name in arguments.names or CASES:
        show(name, arguments.seeds, arguments.after)


if __name__ == "__main__":
    main()
