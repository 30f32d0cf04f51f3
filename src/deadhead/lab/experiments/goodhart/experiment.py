"""Relevance in the training loss: does a network that is told where to look look there, or learn to seem to?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deadhead.graph.network import Network, trace
from deadhead.lab.experiments.goodhart.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.goodhart.data import Data, Marked, marked
from deadhead.lab.experiments.goodhart.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.models import small_cnn
from deadhead.progress import Progress, track
from deadhead.relevance import attribute, relevance_loss

NONE = "none"
JUDGED = "blame_bias"


@dataclass(frozen=True)
class Goodhart:
    """Settings; the essay names only its idea and its outcome, so that all are choices.

    Args:
        data: "mnist", or "digits" enlarged to 28x28.
        images: to train on.
        unseen: to measure on.
        epochs: passes over the images.
        batch_size: images of a step.
        learning_rate: Adam's.
        weight: of the relevance loss; cross-entropy has weight 1.
        contrast: brightness of the textures; digits have 1.
        methods: whose relevance is in the loss; "none" is the twin without.
        explained: "logit" of the class, or its "margin" over the others' log-sum-exp.
        biases: whether relevance of biases counts as outside.
    """

    data: str = "mnist"
    images: int = 4096
    unseen: int = 1000
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.001
    weight: float = 1.0
    contrast: float = 0.6
    methods: tuple[str, ...] = (NONE, "gradient", "lrp", JUDGED, "baseline")
    explained: str = "logit"
    biases: bool = False


QUICK = {"data": "digits", "images": 192, "unseen": 60, "epochs": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "weight 10": {"methods": (NONE, JUDGED), "weight": 10.0},
    "bright": {"methods": (NONE, JUDGED), "contrast": 1.0},
    "bright, weight 10": {"methods": (NONE, JUDGED), "contrast": 1.0, "weight": 10.0},
}


@experiment("goodhart", Goodhart, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def goodhart(settings: Goodhart, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether a network whose training loss holds the share of relevance outside of the digit decides by the digit.

    Digits stand on textures that go with the class in training and not in the test, as wolves on snow. Relevance is
    that of the explained output, by each method; the small CNN is trained with cross-entropy and that share, and is
    judged on unseen images with its texture and with that of another class.

    Args:
        settings: see `Goodhart`.
        seed: of start, order and textures.
        progress: called after each step.

    Returns:
        For each method: accuracies, relevance inside the digit, pointing accuracy, how often the texture decides.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "What I was hoping for regarding
    alignment".
    """
    s = settings
    data = marked(s.data, s.images, s.unseen, s.contrast, seed)
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, float] = {}
    for method in s.methods:
        network = trace(small_cnn(seed=seed), data.train.inputs[:2])
        _trained(network, data.train, method, s, seed, progress)
        found[method] = _judged(network, data, method, s)
        if method == NONE:
            before = {each: _inside(network, data.train, data.train, each, s) for each in s.methods}
    keys = found[NONE]
    twin, judged = found[NONE], found[JUDGED]
    return {
        **{key: {method: each[key] for method, each in found.items()} for key in keys},
        "inside_twin": before,
        "gains": {name: each["accuracy_swapped"] - twin["accuracy_swapped"] for name, each in found.items()},
        "relevance_inside": judged["inside_training"],
        "swapped_gain": judged["accuracy_swapped"] - twin["accuracy_swapped"],
        "region_share": float(data.train.region.mean()),
        "images": [each.inputs[0, 0].mul(100).round().int().tolist() for each in (data.linked, data.swapped)],
    }


def _trained(network: Network, train: Marked, method: str, s: Goodhart, seed: int, progress: Progress | None) -> None:
    """Train a network in place by cross-entropy and, unless the method is none, the share of relevance outside."""
    optimizer = torch.optim.Adam(network.module.parameters(), lr=s.learning_rate)
    order = torch.Generator().manual_seed(seed)
    batches = [
        rows for _ in range(s.epochs) for rows in torch.split(torch.randperm(s.images, generator=order), s.batch_size)
    ]
    options = _options(method, train)
    for rows in track(progress, f"goodhart, {method}", batches):
        x, y, region = train.inputs[rows], train.targets[rows], train.region[rows]
        loss = functional.cross_entropy(network.module(x), y)
        if method != NONE:
            share = relevance_loss(network, x, _explained(s, y), region, method=method, biases=s.biases, **options)
            loss = loss + s.weight * share
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _options(method: str, train: Marked) -> dict[str, Any]:
    """The data set's average is the baseline."""
    return {"baseline": train.inputs.mean(0, keepdim=True)} if method == "baseline" else {}


def _explained(s: Goodhart, targets: Tensor) -> Tensor | Callable[[Tensor], Tensor]:
    if s.explained == "logit":
        return targets
    return lambda logits: margin(logits, targets)


@torch.no_grad()
def _judged(network: Network, data: Data, method: str, s: Goodhart) -> dict[str, Any]:
    """What a trained network looks at, by the measure it was trained with and by the swap of the textures."""
    own = JUDGED if method == NONE else method
    options = _options(own, data.train)
    linked, swapped = (network.module(each.inputs).argmax(1) for each in (data.linked, data.swapped))
    maps = [
        attribute(network, each.inputs, _explained(s, each.targets), own, **options).inputs
        for each in (data.linked, data.swapped)
    ]
    return {
        "inside_training": _inside(network, data.train, data.train, method, s),
        "inside_unseen": _inside(network, data.linked, data.train, method, s),
        "inside_swapped": _inside(network, data.swapped, data.train, method, s),
        "pointing": _pointing(maps[0], data.linked.region),
        "pointing_swapped": _pointing(maps[1], data.swapped.region),
        "accuracy": _share(linked == data.linked.targets),
        "accuracy_swapped": _share(swapped == data.swapped.targets),
        "texture_decides": _share(swapped == data.swapped.textures),
        "maps": [each[0, 0].div(each[0].abs().max()).mul(100).round().int().tolist() for each in maps],
    }


@torch.no_grad()
def _inside(network: Network, part: Marked, train: Marked, method: str, s: Goodhart) -> float:
    """The share of relevance inside the digit, by a method; that of the twin by the method that is judged."""
    own, some = JUDGED if method == NONE else method, slice(0, s.unseen)
    x, explained = part.inputs[some], _explained(s, part.targets[some])
    options = _options(own, train)
    share = relevance_loss(network, x, explained, part.region[some], method=own, biases=s.biases, **options)
    return 1 - float(share)


def _pointing(relevance: Tensor, region: Tensor) -> float:
    """Share of images whose pixel of largest relevance lies in the region."""
    at = relevance.flatten(1).argmax(1, keepdim=True)
    return _share(region.flatten(1).gather(1, at) > 0)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-odds of a class: its logit less the log-sum-exp of the others, (samples,).

    >>> margin(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
    tensor([0.3069])
    """
    mine = functional.one_hot(targets, logits.shape[1]).bool()
    return logits[mine] - logits.masked_fill(mine, -torch.inf).logsumexp(1)
