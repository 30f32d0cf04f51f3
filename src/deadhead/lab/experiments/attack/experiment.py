"""The learning-rate attack: do units die of a few steps that are far too large, and what shows that they did?"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.lab.data import load
from deadhead.lab.experiments.attack.claims import CLAIMS
from deadhead.lab.experiments.attack.figures import PICTURES
from deadhead.lab.experiments.attack.looks import Look, Looker
from deadhead.lab.experiments.attack.numbers import numbers
from deadhead.lab.experiments.attack.runs import LAYERS, Copy, Run, Trainer, attacked_units, plan
from deadhead.lab.experiments.attack.settings import BEFORE, QUICK, Attacks
from deadhead.lab.experiments.attack.shown import shown
from deadhead.lab.experiments.attack.why import TAKEAWAY
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.models import cifar_cnn
from deadhead.lab.train import evaluate
from deadhead.progress import Progress


@experiment(
    "attack", Attacks, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY,
    variants={"batch norm first": BEFORE},
)  # fmt: skip
def attack(settings: Attacks, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether a unit dies when its weights learn 100 or 1,000 times faster at ten steps, and what shows that it did.

    Three small networks learn CIFAR-10 from JPEG copies, which are not comparable with published figures. Of each,
    copies are made in which one unit is attacked; penalty, saliency, gradients, weights, losses and histograms of the
    unit are measured through time beside those of the intact network.

    Args:
        settings: see `Attacks`.
        seed: of start, order and images.
        progress: called after each step, with the number of steps of all copies.

    Returns:
        Numbers that the claims are judged by, and what the figures show.

    Source: Evci (2018), chapter 3.
    """
    s = settings
    train, validation, test = _images(s, seed)
    epochs = {name: s.tanh_epochs if name == "tanh" else s.epochs for name in s.networks}
    trainer = Trainer(*train, s, max(epochs.values()), seed)
    ends = {name: len(trainer.batches) // max(epochs.values()) * each for name, each in epochs.items()}
    runs = plan(s, ends)
    kinds = {name: _network(name, s, seed) for name in s.networks}
    lookers = {name: Looker(_network(name, s, seed), *validation) for name in s.networks}
    intact = {name: Copy(Run("intact", name, "conv1", 0, 0, 1.0, 1, 0, ends[name]), kinds[name]) for name in kinds}
    looks = _history(s, trainer, list(intact.values()), runs, lookers, progress)
    accuracies = {f"accuracies_{name}": evaluate(each.network, *test)[1] for name, each in intact.items()}
    return accuracies | numbers(looks, s) | shown(looks)


def _history(
    s: Attacks,
    trainer: Trainer,
    copies: list[Copy],
    runs: Sequence[Run],
    lookers: Mapping[str, Looker],
    progress: Progress | None,
) -> dict[Run, list[Look]]:
    """Train all copies from start to end, and look at them on the way.

    Args:
        s: the settings.
        trainer: what trains them.
        copies: the intact networks; each attacked copy joins them at its start.
        runs: the attacks.
        lookers: {network: what looks at networks of its kind}.
        progress: called after each step.
    """
    intact = {each.run.network: each for each in copies}
    ends = {each.run.end for each in copies} | {run.end for run in runs}
    cuts = sorted({0, *ends, *(run.start for run in runs), *(each for each in s.checkpoints if each <= max(ends))})
    total = sum(run.end - run.start for run in (*runs, *(each.run for each in copies)))
    looks: dict[Run, list[Look]] = {run: [] for run in (*(each.run for each in copies), *runs)}
    losses: dict[Run, list[tuple[int, float]]] = {run: [] for run in looks}
    done = 0

    def stepped(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress("attack", done, total)

    for first, last in itertools.pairwise(cuts):
        copies += [Copy(run, copy.deepcopy(intact[run.network].network)) for run in runs if run.start == first]
        active = [each for each in copies if each.run.end >= last]
        for each, loss in zip(active, trainer.train(active, first, last, stepped), strict=True):
            losses[each.run].append((last - first, loss))
            if last in s.checkpoints or last in ends:
                whole = each.run.set == "intact" or last == each.run.end
                looks[each.run].append(_look(each, last, losses[each.run], whole, lookers, runs))
                losses[each.run].clear()
        copies = [each for each in copies if each.run.end > last]
    return looks


def _look(
    each: Copy,
    step: int,
    losses: Sequence[tuple[int, float]],
    whole: bool,
    lookers: Mapping[str, Looker],
    runs: Sequence[Run],
) -> Look:
    own = {each.run.layer: [each.run.unit]}
    kept = attacked_units(runs, each.run.network) if each.run.set == "intact" else own
    penalised = {layer: range(size) for layer, size in LAYERS.items()} if whole else own
    loss = sum(count * mean for count, mean in losses) / sum(count for count, _ in losses)
    return lookers[each.run.network].look(each.network, step, loss, penalised, kept)


def _network(name: str, s: Attacks, seed: int) -> nn.Sequential:
    """The start of a network: uniform up to 1 / sqrt(inputs), torch's own; the bound 1 / inputs reads as a misprint."""
    return cifar_cnn("tanh" if name == "tanh" else "relu", s.norm if name == "norm" else "none", seed=seed)


Images = tuple[Tensor, Tensor]


def _images(s: Attacks, seed: int) -> tuple[Images, Images, Images]:
    """Training, validation and test images in [-1, 1] with their classes; validation images are of the test set."""
    split = load(s.data)
    inputs = [split.train_inputs, split.test_inputs]
    if split.train_inputs.shape[1:] == (1, 8, 8):
        inputs = [each.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1) for each in inputs]
    train, test = (each.mul(2).sub_(1) for each in inputs)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    first, rest = order[: s.samples], order[s.samples :]
    targets = split.test_targets
    return (train, split.train_targets), (test[first], targets[first]), (test[rest], targets[rest])
