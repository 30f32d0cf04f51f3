"""A small CNN that loses three fifths of the units of every layer while it trains, beside its twin that does not."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadhead.lab.data import Split, load
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.unit_pruning.claims import CLAIMS, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.unit_pruning.figures import PICTURES
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import UNITS, Arms, Way, batched, parameters, remaining
from deadhead.lab.networks.side_by_side import SideBySide
from deadhead.lab.train import evaluate
from deadhead.progress import Progress, track
from deadhead.training import Masks, storage

Data = Sequence[tuple[Tensor, Tensor]]
MRS: Mapping[str, Any] = {"criterion": "mrs", "criterion_options": {"site": "producer"}}
"""Where the thesis scores: what a layer gives, before pool and nonlinearity."""


@dataclass(frozen=True)
class UnitPruning:
    """Settings: those of Evci (2018), section 4.2 and tables 2.2 and 4.2.

    Args:
        epochs: passes over the training images.
        learning_rate: of gradient descent without momentum or weight decay.
        batch_size: of training.
        rounds: the epochs after which is pruned.
        fractions: of the units of each layer that are removed by then.
        weight_fractions: of single weights, for the copy whose weights are pruned.
        gentle: the largest fraction of units of the copy that is pruned less.
        read: training images that a round reads.
        watched: other training images, on which losses are measured.
        more: epochs that the pruned copy and the twin train on beyond the others.
        thresholds: shares of non-zero weights up to which units of the weight-pruned copy are removed.
        images: training images in all.
        tested: test images, on which accuracy is measured.
        ways: the copies that are trained beside the twin, of `ways`.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    batch_size: int = 32
    rounds: tuple[int, ...] = (2, 3, 4, 5)
    fractions: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6)
    weight_fractions: tuple[float, ...] = (0.2, 0.5, 0.8, 0.9)
    gentle: float = 0.4
    read: int = 1000
    watched: int = 5000
    more: int = 5
    thresholds: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2)
    images: int = 60000
    tested: int = 10000
    ways: tuple[str, ...] = ("mrs", "mrs, zeros", "mrs, less", "obs, least squares", "random", "weights")


QUICK = {
    "epochs": 4, "learning_rate": 0.1, "rounds": (1, 2, 3), "fractions": (0.1, 0.2, 0.6),
    "weight_fractions": (0.2, 0.8, 0.9), "gentle": 0.2, "read": 200, "watched": 300, "more": 1,
    "thresholds": (0.0, 0.1), "images": 1500, "tested": 400, "ways": ("mrs", "weights"),
}  # fmt: skip


@experiment(
    "unit_pruning", UnitPruning, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS
)
def unit_pruning(settings: UnitPruning, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How accurate a network is that lost three fifths of its units while it trained, by what was removed and how.

    The CNN of 8-16-64 units trains on MNIST; copies of it are pruned after some epochs: by mean replacement saliency
    with and without bias propagation, by chance, by the optimal brain surgeon with least squares, less, and by single
    weights; a twin is not. All see the same batches. Units are scored before pool and nonlinearity, as in the thesis,
    and the mean that replaces them is that of what the next layer reads, which the library propagates.

    Args:
        settings: see `UnitPruning`.
        seed: of start, order and random choices.
        progress: called after each step.

    Returns:
        Numbers that the claims are judged by, losses through training, and colour maps of the first seed.

    Source: Evci (2018), section 4.2; section 1.2.4 for bias propagation.
    """
    s, data = settings, load("mnist", progress=progress)
    data = replace(data, test_inputs=data.test_inputs[: s.tested], test_targets=data.test_targets[: s.tested])
    inputs, targets = data.train_inputs[: s.images], data.train_targets[: s.images]
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed + 1))[: s.read + s.watched]
    read, watched = chosen[: s.read], chosen[s.read :]
    known, seen = batched(inputs[read], targets[read]), (inputs[watched], targets[watched])
    before = SideBySide([small_cnn(seed=seed)], s.learning_rate)
    curves = [before.epoch(inputs, targets, s.batch_size, draw, label=_label(e, s), progress=progress)
              for e in range(1, s.rounds[0] + 1)]  # fmt: skip
    arms = Arms(before.models[0], ways(s), s.learning_rate)
    curves = [losses.expand(-1, len(arms.models)) for losses in curves]
    jumps: dict[str, list[float]] = {name: [] for name in arms.ways}
    for epoch in range(s.rounds[0], s.epochs + 1):
        if epoch > s.rounds[0]:
            train = arms.stack.epoch(inputs, targets, s.batch_size, draw, label=_label(epoch, s), progress=progress)
            curves.append(train)
        losses = {name: evaluate(arms.models[name], *seen)[0] for name in arms.due(epoch)}
        arms.prune(epoch, known, seed=seed)
        for name, loss in losses.items():
            jumps[name].append(round(evaluate(arms.models[name], *seen)[0] - loss, 5))
    found: dict[str, Any] = {
        name: _measured(arms, name, data, seen) for name in track(progress, "measuring", arms.ways)
    }
    found |= {"jumps": jumps, "losses": _curve(torch.cat(curves)), "names": list(arms.ways)}
    found |= _numbers(found, s, jumps) | _counts(arms, s) | _cut(arms, data) | _survivors(arms)
    found |= _constant_unit(arms.models["twin"], data)
    if "weights" in arms.models:
        found |= _by_weights(arms.models["weights"], known, data, s, 100 * found["mrs"]["accuracy"])
    found |= _longer(arms, inputs, targets, data, s, draw, progress)
    return found | ({"maps": _maps(arms)} if seed == 0 else {})


def ways(s: UnitPruning) -> dict[str, Way]:
    """How each copy is pruned that the settings ask for."""
    rounds = {epoch: remaining(fraction) for epoch, fraction in zip(s.rounds, s.fractions, strict=True)}
    gentle = {e: remaining(f) for e, f in zip(s.rounds, s.fractions, strict=True) if f <= s.gentle}
    weights = {epoch: 1 - fraction for epoch, fraction in zip(s.rounds, s.weight_fractions, strict=True)}
    found = {
        "twin": Way(),
        "mrs": Way(rounds, MRS),
        "mrs, zeros": Way(rounds, {**MRS, "compensate": "zero"}),
        "mrs, less": Way(gentle, MRS),
        "obs, least squares": Way(rounds, {"criterion": "obs", "compensate": "least_squares"}),
        "random": Way(rounds, {"criterion": "random"}),
        "weights": Way(weights, {"criterion": "magnitude", "scope": "all"}),
    }
    samples = {"samples": s.read}
    return {name: Way(found[name].rounds, {**found[name].options, **samples}) for name in ("twin", *s.ways)}


def _label(epoch: int, s: UnitPruning) -> str:
    return f"epoch {epoch} of {s.epochs}"


def _measured(arms: Arms, name: str, data: Split, seen: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Losses and accuracy of a copy at the end, and the parameters that its open units have."""
    loss, accuracy = evaluate(arms.models[name], data.test_inputs, data.test_targets)
    size = parameters(arms.units(name))
    if name == "weights":
        size = sum(int((value != 0).sum()) for value in arms.models[name].parameters())
    train = evaluate(arms.models[name], *seen)[0]
    return {"accuracy": accuracy, "test_loss": round(loss, 5), "train_loss": round(train, 5), "parameters": size}


def _curve(losses: Tensor, points: int = 150) -> list[list[float]]:
    """Mean losses over equal stretches of training: (copies, points)."""
    parts = losses.double().tensor_split(min(points, len(losses)))
    found: list[list[float]] = torch.stack([part.mean(0) for part in parts]).t().numpy().round(4).tolist()
    return found


def _numbers(found: Mapping[str, Any], s: UnitPruning, jumps: Mapping[str, list[float]]) -> dict[str, Any]:
    """What the claims about accuracy and about the peaks of the loss are judged by."""
    percent = {name: 100 * found[name]["accuracy"] for name in jumps}
    small = [jump for jump, fraction in zip(jumps["mrs"], s.fractions, strict=True) if fraction <= 0.2]
    large = [jump for jump, fraction in zip(jumps["mrs"], s.fractions, strict=True) if fraction > 0.2]
    ways = {
        "mrs": "mrs", "zeros": "mrs, zeros", "less": "mrs, less", "obs": "obs, least squares", "random": "random",
        "weights": "weights",
    }  # fmt: skip
    result: dict[str, Any] = {}
    for key, way in ways.items():
        known = way in percent
        result[f"drop_{key}"] = percent["twin"] - percent[way] if known else None
        result[f"last_jump_{key}"] = jumps[way][-1] if known else None
        result[f"train_loss_gap_{key}"] = found[way]["train_loss"] - found["twin"]["train_loss"] if known else None
    return result | {
        "twin_accuracy": percent["twin"],
        "pruned_accuracy": percent["mrs"],
        "smaller_large_jump": min(large),
        "larger_small_jump": max(small),
        "train_loss_gap": result["train_loss_gap_mrs"],
        "test_loss_gap": found["mrs"]["test_loss"] - found["twin"]["test_loss"],
    }


def _counts(arms: Arms, s: UnitPruning) -> dict[str, Any]:
    """How far the units and parameters that are left are from 4-7-26 and 4,019, and how far rounding would be."""
    wanted, rounded = {"conv1": 4, "conv2": 7, "fc1": 26}, {n: k - round(s.fractions[-1] * k) for n, k in UNITS.items()}

    def off(units: Mapping[str, int]) -> int:
        return sum(abs(units[name] - k) for name, k in wanted.items()) + abs(parameters(units) - 4019)

    return {"count_error": off(arms.units("mrs")), "count_error_rounded": off(rounded)}


def _cut(arms: Arms, data: Split) -> dict[str, Any]:
    """The pruned copy copied into smaller tensors: what it computes, and its time and memory over the masked one's."""
    example, closed = data.test_inputs[:200], arms.masks["mrs"].closed
    # copies of their own, since views of stacked tensors may lie otherwise in memory than what a cut makes
    masked, twin = small_cnn(), small_cnn()
    masked.load_state_dict(arms.models["mrs"].state_dict())
    twin.load_state_dict(arms.models["twin"].state_dict())
    masks = Masks(masked, None, example=example[:2])
    masks.close(closed)
    costs = storage(masked, masks, example=example, batches=(1, 1000), repeats=11)
    with torch.no_grad():
        before = twin(example)
        for name, units in closed.items():
            twin.get_parameter(f"{name}.weight")[units], twin.get_parameter(f"{name}.bias")[units] = 0.0, 0.0
        moved = (twin(example) - before).abs().max() / before.abs().max()
    zeroed, cut = costs["zeroed"], costs["cut"]
    return {
        "cut_difference": cut.difference,
        "twin_cut_difference": float(moved),
        "time_ratio": cut.milliseconds[1000] / zeroed.milliseconds[1000],
        "time_ratio_single": cut.milliseconds[1] / zeroed.milliseconds[1],
        "bytes_ratio": cut.memory_bytes / zeroed.memory_bytes,
    }


def _survivors(arms: Arms) -> dict[str, Any]:
    """The correlation of weights' magnitudes with the twin's, over weights between units that remain, by layer."""
    keep = arms.masks["mrs"].keep
    found = []
    for name in ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"):
        ours, twin = (arms.models[each].get_parameter(name).detach().abs() for each in ("mrs", "twin"))
        inside = keep[name] if name in keep else torch.ones_like(ours, dtype=torch.bool)
        found.append(float(np.corrcoef(ours[inside].numpy(), twin[inside].numpy())[0, 1]))
    return {"survivor_correlations": found}


def _constant_unit(net: nn.Module, data: Split) -> dict[str, Any]:
    """Change of the outputs by removing a planted constant unit of each layer, with its mean propagated and without."""
    planted, images = copy.deepcopy(net).double(), data.test_inputs[:50].double()
    with torch.no_grad():
        for name in UNITS:
            planted.get_parameter(f"{name}.weight")[0], planted.get_parameter(f"{name}.bias")[0] = 0.0, 0.7
        before, found = planted(images), {}
        masks = Masks(planted, None, example=images)
        for key, reference in (("constant_unit_change", "mean"), ("bare_deletion_change", "zero")):
            masks.close({name: [0] for name in UNITS}, reference=reference)
            found[key] = float((planted(images) - before).abs().max())
            masks.open()
    return found


def _by_weights(net: nn.Module, known: Data, data: Split, s: UnitPruning, wanted: float) -> dict[str, Any]:
    """Units of the weight-pruned copy removed where few of their weights are left: sizes, accuracies, and the smallest
    size that is as accurate as the unit-pruned copy."""
    sizes, accuracies = [parameters()], [100 * evaluate(net, data.test_inputs, data.test_targets)[1]]
    shares, smaller = {name: _nonzero(net, name) for name in UNITS}, copy.deepcopy(net)
    masks = Masks(smaller, None, example=data.test_inputs[:2])
    for threshold in s.thresholds:
        closing = {name: each <= threshold for name, each in shares.items()}
        if any(bool(units.all()) for units in closing.values()):
            break
        masks.close(closing, reference="mean", data=known)
        sizes.append(parameters({name: int((~units).sum()) for name, units in masks.units.items()}))
        accuracies.append(100 * evaluate(smaller, data.test_inputs, data.test_targets)[1])
    equal = min(size for size, each in zip(sizes, accuracies, strict=True) if each >= min(wanted, accuracies[0]))
    return {
        "weights_sizes": sizes, "weights_accuracies": accuracies, "weights_size_at_equal": equal,
        "parameters_saved": equal - parameters(remaining(s.fractions[-1])),
    }  # fmt: skip


def _nonzero(net: nn.Module, name: str) -> Tensor:
    """The share of non-zero weights into each unit of a layer or out of it, whichever is smaller."""
    weight = net.get_parameter(f"{name}.weight")
    into = (weight != 0).flatten(1).double().mean(1)
    order = list(UNITS)
    after = net.get_parameter(f"{[*order, 'fc2'][order.index(name) + 1]}.weight")
    columns = (after != 0).double().reshape(len(after), len(weight), -1)
    return torch.minimum(into, columns.mean((0, 2)))


def _longer(
    arms: Arms, inputs: Tensor, targets: Tensor, data: Split, s: UnitPruning, draw: torch.Generator,
    progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    """Accuracies, in percent, of the twin and the pruned copy when both train on: the mean over the ends of the epochs,
    for one end differs from the next by as much as the two copies."""
    stack = SideBySide([arms.models["twin"], arms.models["mrs"]], s.learning_rate)
    stack.hold(1, arms.masks["mrs"].keep)
    seen = []
    for epoch in range(1, s.more + 1):
        stack.epoch(inputs, targets, s.batch_size, draw, label=f"{epoch} of {s.more} more", progress=progress)
        seen.append([100 * evaluate(model, data.test_inputs, data.test_targets)[1] for model in stack.models])
    twin, pruned = np.mean(seen, 0).tolist()
    return {"twin_longer": twin, "accuracy_longer": pruned, "drop_longer": twin - pruned}


def _maps(arms: Arms) -> dict[str, list[list[list[int]]]]:
    """Magnitudes of every layer of the twin and of the pruned copy, as whole numbers to 99, the layer's largest."""
    found = {}
    for name in (*UNITS, "fc2"):
        pair = [arms.models[each].get_parameter(f"{name}.weight").detach().abs().flatten(1) for each in ("twin", "mrs")]
        top = max(float(each.max()) for each in pair)
        found[name] = [(99 * each / top).round().int().tolist() for each in pair]
    return found
