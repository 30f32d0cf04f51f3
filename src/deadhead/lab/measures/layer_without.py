"""Loss changes of a layer without some weights, and what `parameter_saliencies` measures at the end of training."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deadhead.graph.network import Network, trace
from deadhead.lab.lazily import stats
from deadhead.lab.measures.weight_surgeon import gram_of, removed_by_surgeon
from deadhead.lab.networks.mnist_cnn import Pairs, network
from deadhead.progress import Progress, track
from deadhead.scores import score_parameters

Net = Any
LAYER = "conv1.weight"
SCORES = ("loss_change", "taylor1", "taylor2", "hessian_row")
ABSOLUTE = tuple(f"{name}, absolute" for name in SCORES)


def rounded(values: Sequence[float]) -> list[float]:
    """Four digits of each."""
    return [float(f"{value:.4g}") for value in values]


@torch.no_grad()
def loss_without(net: Net, index: Any, reads: Pairs) -> float:
    """The mean loss with some weights of the layer at zero; they are put back.

    Args:
        net: the network.
        index: of the weights, in the flattened layer.
        reads: the images.
    """
    weight = net.get_parameter(LAYER)
    before = weight.detach().clone()
    removed = before.flatten().clone()  # flatten may give a view
    removed[index] = 0.0
    weight.copy_(removed.reshape(before.shape))
    total = sum(functional.cross_entropy(net(x), y, reduction="sum").double() for x, y in reads)
    weight.copy_(before)
    return float(total) / sum(len(y) for _, y in reads)


def patches_of(net: Net, fits: Pairs) -> Tensor:
    """The second moments of the patches that the layer reads, of `gram_of`: they do not change in training."""
    layer = net.conv1
    return gram_of(torch.cat([functional.unfold(x, layer.kernel_size).transpose(1, 2).flatten(0, 1) for x, _ in fits]))


def loss_after_surgery(net: Net, count: int, gram: Tensor, reads: Pairs, fits: Pairs) -> float:
    """The mean loss after the optimal brain surgeon has removed so many weights of the layer and refitted the others,
    which are put back. Beyond the thesis.

    Args:
        net: the network.
        count: how many weights are removed.
        gram: of `patches_of`, for the images of `fits`.
        reads: the images of the loss.
        fits: the images on which weights are chosen and refitted: others, so that the loss is of unseen ones.
    """
    layer, steep = net.conv1, torch.zeros(net.conv1.out_channels)
    for x, y in fits:
        made = layer(x)
        slope = torch.autograd.grad(functional.cross_entropy(net[1:](made), y, reduction="sum"), made)[0]
        steep += slope.square().sum((0, 2, 3))
    before = [layer.weight.detach().clone(), layer.bias.detach().clone()]
    after = removed_by_surgeon(before[0].flatten(1), before[1], gram, count, steep)
    with torch.no_grad():
        for parameter, value in zip((layer.weight, layer.bias), after, strict=True):
            parameter.copy_(value.reshape(parameter.shape))
        loss = loss_without(net, [], reads)
        for parameter, value in zip((layer.weight, layer.bias), before, strict=True):
            parameter.copy_(value)
    return loss


def end_of_training(last: dict[str, Tensor]) -> dict[str, Any]:
    """Rank correlations with the loss change at the end, and the ranks themselves."""

    def rho(name: str, other: str) -> float:
        return float(stats.spearmanr(last[name].numpy(), last[other].numpy()).statistic)

    raw = {name: rho(name, SCORES[0]) for name in (*SCORES[1:], "taylor2, lambda 1/2", "magnitude", "random")}
    return {
        "rho": raw,
        "rho_taylor1_less_taylor2": raw["taylor1"] - raw["taylor2"],
        "rho_taylor1_less_hessian": raw["taylor1"] - raw["hessian_row"],
        "rho_absolute": [rho(name, ABSOLUTE[0]) for name in ABSOLUTE[1:]],
        "rho_magnitude": rho("magnitude", ABSOLUTE[0]),
        "ranks": {name: value.argsort().argsort().tolist() for name, value in last.items()},
    }


def greedy(traced: Network, rounds: int, reads: Pairs, held: Pairs, progress: Progress | None = None) -> dict[str, Any]:
    """Remove the two weights of the lowest loss change, score anew, and so on: the loss of the images that were scored
    and of test images after each round, and by one ranking beside."""
    how: dict[str, Any] = {"loss": "cross_entropy", "criterion": "loss_change", "parameters": LAYER}
    net: Net = traced.module
    weight, losses = net.get_parameter(LAYER), {"scored": [loss_without(net, [], reads)]}
    before = weight.detach().clone()
    losses["held_out"] = [loss_without(net, [], held)]
    alone = score_parameters(traced, reads, **how)[LAYER]
    once, closed = alone.flatten().argsort(stable=True), list[int]()
    losses["one_ranking"] = list(losses["scored"])
    for number in track(progress, "removing two by two", range(1, rounds + 1)):
        closed += [i for i in alone.flatten().argsort(stable=True).tolist() if i not in closed][:2]
        with torch.no_grad():
            removed = before.flatten().clone()  # flatten may give a view
            removed[closed] = 0.0
            weight.copy_(removed.reshape(before.shape))
        losses["scored"].append(loss_without(net, [], reads))
        losses["held_out"].append(loss_without(net, [], held))
        alone = score_parameters(traced, reads, **how)[LAYER]
        with torch.no_grad():
            weight.copy_(before)
        losses["one_ranking"].append(loss_without(net, once[: 2 * number], reads))
    return {name: rounded(values) for name, values in losses.items()}


def run_times(
    widths: Sequence[int], repeats: int, seed: int, reads: Pairs, progress: Progress | None = None
) -> dict[str, Any]:
    """Seconds of one core for scoring all parameters by each criterion, medians of repeats in turn (table 2.1); time
    that other processes take does not count."""
    names, found = ("taylor1", "taylor2", "hessian_row", "magnitude"), dict[str, Any]()
    for width in track(progress, "run times", widths):
        net = trace(network(seed, width=width), reads[0][0][:2])
        score_parameters(net, reads[:1], loss="cross_entropy")  # the first call finds the graph
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(repeats):
            for name in names:
                start = time.thread_time()
                score_parameters(net, reads, loss="cross_entropy", criterion=name)
                seconds[name].append(time.thread_time() - start)
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        found[f"seconds_x{width}"] = medians
        found[f"second_over_first_x{width}"] = medians["taylor2"] / medians["taylor1"]
        found[f"magnitude_over_first_x{width}"] = medians["magnitude"] / medians["taylor1"]
    return found
