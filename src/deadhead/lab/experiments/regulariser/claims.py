"""What "Pruning in Neural Networks: Purpose and Concept" claims about overfitting, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every

TAKEAWAY = (
    "On 2,000 images of which a fifth has a wrong label, the network gives back {twin_fitted:%} of the wrong labels "
    "and ends at a test loss of {twin_test_loss}; pruned to a fifth of its parameters while it trains it gives back "
    "{mrs_fitted:%} and ends at {mrs_test_loss}. That is {best_ratio} times the lowest test loss on the way of the "
    "unpruned one, which stopping in time would have kept."
)
VARIANTS: Mapping[str, Mapping[str, Any]] = {}

CLAIMS = (
    Claim(
        "F5.1", '"Pruning in Neural Networks: Purpose and Concept", benefits of pruning',
        "Pruning reduces overfitting and memorised noise.", "none",
        Every(
            Difference("gap_change", below=0), Difference("fitted_change", below=0),
            Difference("test_loss_ratio", below=1.01),
        ),
        {"gap_change": -0.5, "fitted_change": -0.3, "test_loss_ratio": 0.7},
        {"gap_change": 0.5, "fitted_change": 0.3, "test_loss_ratio": 1.4},
        "The copy of 4-7-26 units against its twin: gap of the loss between test images with as many wrong labels and "
        "the training images; share of the wrong labels that the network gives back; test loss on true labels over the "
        "twin's, which counts as no higher up to 1 % above it.",
        picture="sizes",
    ),
)  # fmt: skip
"""In the order of their numbers."""
