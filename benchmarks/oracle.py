"""The oracle beside the plain loop over masked forward passes: seconds, passes over the data, and the curves.

    python benchmarks/oracle.py [mlp] [cnn] [resnet]

`mlp`: 400-50-50-10, sigmoid, squared error, on 5,000 images of MNIST at 20x20, the network of Wolfe et al. (2016).
`cnn`: the small CNN of Evci (2018) on 10,000 images. `resnet`: the first 16 removals among the last two blocks of
ResNet-18's shape, its stem made for small images, on 512 images of CIFAR-10. In one run: the plain loop (a hook masks
what a consumer reads, one forward pass for each remaining unit; of `cnn` and `resnet` only some rounds are timed,
and the rest estimated by their number of passes), `oracle(exact=True)` and the race. Along the exact order, the plain
loop's loss of the unit that was picked is compared with the smallest: relative to the loss, at most 1e-6 is a tie in
float32. Passes are losses of single samples by the number of samples; work is multiply-adds, in forward passes over the
data.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from machine import print_machine
from networks import ResNet
from torch import Tensor, nn

import deadhead as dh
from deadhead.lab.data import cifar10_jpeg, mnist
from deadhead.lab.models import small_cnn
from deadhead.lab.train import fit

PATIENCE = 150
"""Seconds after which the rest of a plain loop is estimated."""


@dataclass(frozen=True)
class Case:
    """A network, its data in batches, the groups with the module that reads each, and how many removals."""

    model: nn.Module
    batches: Sequence[tuple[Tensor, Tensor]]
    readers: dict[str, str]
    remove: int | None
    loss: str = "cross_entropy"


def mlp() -> Case:
    split = mnist()
    torch.manual_seed(0)
    sizes = (400, 50, 50, 10)
    layers = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), nn.Sigmoid())]
    model = nn.Sequential(*layers)
    images = F.interpolate(split.train_inputs[:5000], (20, 20), mode="area").flatten(1)
    targets = F.one_hot(split.train_targets[:5000], 10).float()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for epoch in range(60):
        for index in torch.randperm(5000, generator=torch.Generator().manual_seed(epoch)).split(50):
            optimizer.zero_grad()
            (model(images[index]) - targets[index]).square().sum(1).mean().backward()
            optimizer.step()
    return Case(model.eval(), [(images, targets)], {"0": "2", "2": "4"}, None, "squared_error")


def cnn() -> Case:
    split = mnist()
    model = small_cnn(seed=0)
    images, targets = split.train_inputs[:10000], split.train_targets[:10000]
    fit(model, images, targets, epochs=3, batch_size=50, learning_rate=1e-3, seed=0)
    batches = list(zip(images.split(1000), targets.split(1000), strict=True))
    network = dh.trace(model.eval(), images[:2])
    readers = {group.name: group.consumers[0].module for group in network.groups}
    return Case(model, batches, readers, None)


def resnet() -> Case:
    split = cifar10_jpeg()
    torch.manual_seed(0)
    model = ResNet((2, 2, 2, 2), False, classes=10, small=True)
    images, targets = split.train_inputs[:512], split.train_targets[:512]
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for start in range(0, 1536, 64):  # a little training, so that losses are not all alike
        part = slice(start % 512, start % 512 + 64)
        optimizer.zero_grad()
        F.cross_entropy(model(images[part]), targets[part]).backward()
        optimizer.step()
    network = dh.trace(model.eval(), images[:2])
    names = [group for group in network.groups if len(group.consumers) == 1][-2:]
    batches = list(zip(images.split(128), targets.split(128), strict=True))
    return Case(model, batches, {group.name: group.consumers[0].module for group in names}, 16)


def masked_loss(case: Case, masks: dict[str, Tensor]) -> float:
    """The mean loss with what each consumer reads times a mask for each unit."""
    handles = []
    for name, reader in case.readers.items():
        mask = masks[name]

        def hide(_: nn.Module, args: tuple[Tensor], mask: Tensor = mask) -> Tensor:
            x = args[0]
            wide = mask.repeat_interleave(x.shape[1] // len(mask))
            return x * wide.reshape(1, -1, *[1] * (x.dim() - 2))

        handles.append(case.model.get_submodule(reader).register_forward_pre_hook(hide))
    try:
        with torch.no_grad():
            losses = {
                "cross_entropy": lambda x, t: F.cross_entropy(case.model(x), t, reduction="sum"),
                "squared_error": lambda x, t: 0.5 * (case.model(x) - t).square().sum(),
            }
            total = sum(losses[case.loss](x, t).item() for x, t in case.batches)
    finally:
        for handle in handles:
            handle.remove()
    return total / sum(len(t) for _, t in case.batches)


def plain(case: Case, sizes: dict[str, int], order: Sequence[tuple[str, int]]) -> tuple[float, bool, float]:
    """Seconds of the plain loop along an order, whether they are estimated, and the maximum of (loss of the pick -
    minimum loss) / minimum loss."""
    masks = {name: torch.ones(size) for name, size in sizes.items()}
    passes, done, spent, excess = 0, 0, 0.0, 0.0
    for name, unit in order:
        remaining = [(n, u) for n, m in masks.items() if m.sum() > 1 for u in range(len(m)) if m[u]]
        passes += len(remaining)
        if spent < PATIENCE:
            start, losses = time.perf_counter(), {}
            for n, u in remaining:
                masks[n][u] = 0
                losses[n, u] = masked_loss(case, masks)
                masks[n][u] = 1
                if time.perf_counter() - start + spent > PATIENCE:
                    break
            else:
                excess = max(excess, (losses[name, unit] - min(losses.values())) / min(losses.values()))
            done += len(losses)
            spent += time.perf_counter() - start
        masks[name][unit] = 0
    return spent * passes / done, done < passes, excess


def timed(function: Callable[[], dh.Removal]) -> tuple[float, dh.Removal]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def show(name: str, case: Case) -> None:
    options = {"loss": case.loss, "only": list(case.readers), "remove": case.remove, "samples": None}
    network = dh.trace(case.model, case.batches[0][0][:2])
    sizes = {group.name: group.size for group in network.groups if group.name in case.readers}
    exact_seconds, exact = timed(lambda: dh.oracle(network, case.batches, **options))
    race_seconds, race = timed(lambda: dh.oracle(network, case.batches, exact=False, **options))
    plain_seconds, estimated, excess = plain(case, sizes, exact.order)
    pairs = list(zip(race.losses, exact.losses, strict=True))
    distance = sum(abs(math.log(a / b)) for a, b in pairs) / len(pairs)
    about = "about " if estimated else ""
    samples = sum(len(targets) for _, targets in case.batches)
    print(f"{name}: {sum(sizes.values())} units, {len(exact.order)} removals, {samples} samples")
    print(f"  plain loop {about}{plain_seconds:8.1f} s  {exact.passes:10,.0f} passes")
    print(f"  exact      {exact_seconds:8.1f} s  {exact.passes:10,.0f} passes, work of {exact.work:,.0f}, ", end="")
    print(f"{plain_seconds / exact_seconds:.1f} times faster; ", end="")
    print(f"the plain loop's loss of the picked units is at most {excess:.1e} above the minimum, relatively")
    share = race.passes / exact.passes
    print(f"  race       {race_seconds:8.1f} s  {race.passes:10,.0f} passes, {share:.1%}, ", end="")
    print(f"work of {race.work:,.0f}, {race.work / exact.work:.1%}; ", end="")
    print(f"mean |log(loss by race / by exact)| {distance:.4f}")
    shown = [round(i * (len(exact.losses) - 1) / 10) for i in range(11)]
    print("  removed    " + "".join(f"{place:9d}" for place in shown))
    for label, result in (("exact", exact), ("race", race)):
        print(f"  {label:11}" + "".join(f"{result.losses[place]:9.4f}" for place in shown), flush=True)


def main() -> None:
    cases = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
    chosen = sys.argv[1:] or list(cases)
    unknown = [name for name in chosen if name not in cases]
    if unknown:
        sys.exit(f"There is no case {', '.join(unknown)}; the cases are {', '.join(cases)}.")
    print_machine()
    for name in chosen:
        show(name, cases[name]())


if __name__ == "__main__":
    main()
