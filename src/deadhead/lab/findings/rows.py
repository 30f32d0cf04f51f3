"""What the documents ask for: a title for each row of features, and where rows without a claim can be seen."""

from __future__ import annotations

import re

DOCUMENTS = {
    "A": 'Toy networks under node removal: "Exploring toy neural nets under node removal"',
    "B": 'Relevance: "Visualizing Neural networks, how to blame the bias"',
    "C": 'Train first or prune first: "Train first vs prune first in neural networks", and its comments',
    "D": "Pruning units by a second-order Taylor method: Wolfe et al. (2016)",
    "E": "Dead weights and units: Evci (2018)",
    "F": "Pruning in words",
}
"""By the letter of their rows."""

ROWS = {
    "A1": "a circle learned by 20 units",
    "A2": "switching units on and off",
    "A3": "losses of random subnetworks",
    "A4": "the log loss and its fitted normals",
    "A5": "gradients by the gates",
    "A6": "paths that flip every unit",
    "A7": "maps of each unit's gradient and of the loss",
    "B1": "rules, freely combined",
    "B2": "named algorithms",
    "B3": "consistency of rules",
    "B4": "the form Q = R / a",
    "B5": "end conditions",
    "B6": "blame the bias",
    "B7": "comparison with a baseline",
    "B8": "relevance as a training loss",
    "C1": "the spiral and its decisions",
    "C2": "removal with and without adjusted biases",
    "C3": "random halves in three orders",
    "C4": "kernels of both orders",
    "C5": "removal by the smallest deviation",
    "C6": "held-out data and the bound",
    "D1": "criteria: brute force, linear, quadratic",
    "D2": "thresholds for large estimates",
    "D3": "one ranking, or ranking anew",
    "D4": "the cosine",
    "D5": "MNIST at 20x20",
    "D6": "one digit against the rest",
    "D7": "shapes",
    "D8": "error surfaces over the gain",
    "D9": "which layer units are taken from",
    "D10": "the oracle on a subset, in parallel",
    "D11": "cascade correlation",
    "E1": "scores of weights and their cost",
    "E2": "Hessians",
    "E3": "scores of weights through training",
    "E4": "a schedule of masks",
    "E5": "units with few weights",
    "E6": "scores of units through training",
    "E7": "bias propagation",
    "E8": "dead and frozen units",
    "E9": "learning-rate attack",
    "E10": "unit pruning while training",
    "E11": "colour maps of the layers",
    "E12": "copying into smaller tensors",
    "E13": "the runner of experiments",
    "F1": "zeroed, sparse and cut",
    "F2": "closed and opened again, or removed",
    "F3": "importance of a weight",
    "F4": "the network as a layered graph",
    "F5": "pruning as a regulariser",
}
"""By number."""

WITHOUT_CLAIM = {
    "E2": '`deadhead.score_parameters(model, data, criterion="hessian")`: the full Hessian for small networks, and '
    "products with it for all; `parameter_saliencies` compares them.",
    "E13": "`deadhead lab run FILE.yaml`: typed options, ranges, the cross product as jobs, SLURM, TensorBoard.",
    "F4": "`deadhead lab run layers`",
}
"""Rows about which no document claims anything, and what shows them."""


def row_of(claim: str) -> str:
    """The row of a claim: "A1" of "A1.2"."""
    return claim.partition(".")[0]


def order(claim: str) -> tuple[str, list[int]]:
    """What claims and rows are sorted by: the letter, then the numbers."""
    return claim[0], [int(x) for x in re.findall(r"\d+", claim)]
