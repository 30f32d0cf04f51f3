"""Few images with wrong labels among them: does a network that is pruned while it trains memorise less?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.lab.data import Split, load
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.regulariser.claims import CLAIMS, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.regulariser.figures import PICTURES
from deadhead.lab.experiments.unit_pruning.experiment import MRS
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import Arms, Way, batched, parameters, remaining
from deadhead.lab.networks.side_by_side import SideBySide
from deadhead.lab.train import evaluate
from deadhead.progress import Progress


@dataclass(frozen=True)
class Regulariser:
    """Settings: network, learning rate, batch and fractions of Evci (2018), section 4.2; the rest are choices.

    With 2,000 images an epoch is a thirtieth, so that there are more of them; pruning takes place in the same part of
    training, from a fifth of it to a half.

    Args:
        images: training images.
        wrong: the share of them whose label is wrong.
        epochs: passes over them.
        learning_rate: of gradient descent without momentum or weight decay.
        batch_size: of training.
        rounds: the epochs after which is pruned.
        fractions: of the units of each layer that are removed by then.
        sizes: largest fractions of other copies.
        every: epochs between measurements.
        tested: test images.
        read: training images that a round reads.
    """

    images: int = 2000
    wrong: float = 0.2
    epochs: int = 200
    learning_rate: float = 0.01
    batch_size: int = 32
    rounds: tuple[int, ...] = (40, 60, 80, 100)
    fractions: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6)
    sizes: tuple[float, ...] = (0.2, 0.4)
    every: int = 10
    tested: int = 10000
    read: int = 1000


QUICK = {
    "images": 200, "epochs": 30, "learning_rate": 0.2, "batch_size": 20, "rounds": (6, 8), "fractions": (0.2, 0.6),
    "sizes": (), "every": 5, "tested": 300, "read": 100,
}  # fmt: skip


@experiment(
    "regulariser", Regulariser, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS
)
def regulariser(settings: Regulariser, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether pruning units in training keeps a network from memorising wrong labels.

    Copies of the CNN of 8-16-64 units train on 2,000 images of MNIST, a fifth with a wrong label: as they are, pruned
    to several sizes by mean replacement saliency, by the optimal brain surgeon with least squares, and by chance. The
    gap of generalisation is that of the loss on test images whose labels were spoiled in the same way to the loss on
    the training images; other test numbers are on true labels.

    Args:
        settings: see `Regulariser`.
        seed: of images, wrong labels, start, order and random choices.
        progress: called after each step.

    Returns:
        Numbers that the claims are judged by, and losses through training.

    Source: "Pruning in Neural Networks: Purpose and Concept", benefits of pruning.
    """
    s, data = settings, load("mnist", progress=progress)
    data = replace(data, test_inputs=data.test_inputs[: s.tested], test_targets=data.test_targets[: s.tested])
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train_inputs), generator=draw)[: s.images]
    inputs, truth = data.train_inputs[rows], data.train_targets[rows]
    targets, spoiled = spoil(truth, s.wrong, draw), spoil(data.test_targets, s.wrong, draw)
    known = batched(inputs[: s.read], targets[: s.read])
    before = SideBySide([small_cnn(seed=seed)], s.learning_rate)
    seen = Seen(inputs, targets, truth, data, spoiled)
    start = [seen.now(before.models[0])]
    for epoch in range(1, s.rounds[0] + 1):
        before.epoch(inputs, targets, s.batch_size, draw, label=f"epoch {epoch} of {s.epochs}", progress=progress)
        if epoch % s.every == 0:
            start.append(seen.now(before.models[0]))
    arms = Arms(before.models[0], ways(s), s.learning_rate)
    curves = {name: list(start) for name in arms.models}
    for epoch in range(s.rounds[0], s.epochs + 1):
        if epoch > s.rounds[0]:
            label = f"epoch {epoch} of {s.epochs}"
            arms.stack.epoch(inputs, targets, s.batch_size, draw, label=label, progress=progress)
            for name, model in arms.models.items() if epoch % s.every == 0 else ():
                curves[name].append(seen.now(model))
        arms.prune(epoch, known, seed=seed)
    ends = {name: seen.end(model) | {"parameters": parameters(arms.units(name))} for name, model in arms.models.items()}
    twin, pruned = ends["twin"], ends["mrs"]
    return {
        "ends": ends,
        "curves": curves,
        "epochs": [0, *range(s.every, s.epochs + 1, s.every)],
        "gap_change": pruned["gap"] - twin["gap"],
        "fitted_change": pruned["fitted"] - twin["fitted"],
        "test_loss_ratio": pruned["test_loss"] / twin["test_loss"],
        "best_ratio": pruned["test_loss"] / min(each[1] for each in curves["twin"]),
        **{f"twin_{key}": value for key, value in twin.items()},
        **{f"mrs_{key}": value for key, value in pruned.items()},
    }


def spoil(truth: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """Labels of which a share is wrong, drawn among the other nine classes.

    Example:
        >>> truth = torch.arange(10).repeat(10)
        >>> wrong = spoil(truth, 0.2, torch.Generator().manual_seed(0)) != truth
        >>> int(wrong.sum())
        20
    """
    found = truth.clone()
    rows = torch.randperm(len(truth), generator=draw)[: round(share * len(truth))]
    found[rows] = (truth[rows] + torch.randint(1, 10, rows.shape, generator=draw)) % 10
    return found


def ways(s: Regulariser) -> dict[str, Way]:
    """How each copy is pruned: less, as far as the thesis, and by other choices."""
    rounds = {epoch: remaining(fraction) for epoch, fraction in zip(s.rounds, s.fractions, strict=True)}
    found = {"twin": Way()}
    for size in s.sizes:
        less = {e: remaining(f) for e, f in zip(s.rounds, s.fractions, strict=True) if f <= size}
        found[f"mrs, {size:g}"] = Way(less, {**MRS, "samples": s.read})
    found["mrs"] = Way(rounds, {**MRS, "samples": s.read})
    found["obs"] = Way(rounds, {"criterion": "obs", "compensate": "least_squares", "samples": s.read})
    found["random"] = Way(rounds, {"criterion": "random", "samples": s.read})
    return found


class Seen:
    """What networks make of training and test images.

    Args:
        inputs: training images.
        targets: their labels, some wrong.
        truth: their true labels.
        data: with test images and true labels.
        spoiled: the test images' labels, as many wrong.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, truth: Tensor, data: Split, spoiled: Tensor) -> None:
        self.inputs, self.targets, self.wrong = inputs, targets, targets != truth
        self.data, self.spoiled = data, spoiled

    def now(self, model: nn.Module, few: int = 2000) -> list[float]:
        """Loss on the training images, loss on a few test images, share of wrong labels that the network gives."""
        test = evaluate(model, self.data.test_inputs[:few], self.data.test_targets[:few])[0]
        train = evaluate(model, self.inputs, self.targets)[0]
        return _rounded([train, test, self._fitted(model)])

    def end(self, model: nn.Module) -> dict[str, Any]:
        """All numbers of one network."""
        test_loss, accuracy = evaluate(model, self.data.test_inputs, self.data.test_targets)
        train_loss = evaluate(model, self.inputs, self.targets)[0]
        gap = evaluate(model, self.data.test_inputs, self.spoiled)[0] - train_loss
        names = ("train_loss", "test_loss", "gap", "accuracy", "fitted")
        return dict(zip(names, _rounded([train_loss, test_loss, gap, accuracy, self._fitted(model)]), strict=True))

    def _fitted(self, model: nn.Module) -> float:
        return evaluate(model, self.inputs[self.wrong], self.targets[self.wrong])[1]


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in values]
