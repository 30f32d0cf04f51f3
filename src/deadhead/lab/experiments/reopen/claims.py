"""What "Pruning in Neural Networks: Purpose and Concept" claims about pruning nodes, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference

NODES = '"Pruning in Neural Networks: Purpose and Concept", pruning nodes'

TAKEAWAY = (
    "Units that are removed for good end as well as units that may come back: opening them again changes the test "
    "loss by {reopened_loss_change}, from {removed_loss}. Without training on, closing units costs "
    "{units_less_weights_mean} nats more than dropping as many of the smallest weights; when the optimal brain "
    "surgeon chooses them and least squares refits the next layer, the difference is {refitted_less_weights}, at "
    "sizes from 17,791 to 4,019 parameters."
)
VARIANTS: Mapping[str, Mapping[str, Any]] = {}

CLAIMS = (
    Claim(
        "F2.1", NODES, "Closing units and opening them again is better than removing them.", '"often preferable"',
        Difference("reopened_loss_change", below=0), {"reopened_loss_change": -0.01}, {"reopened_loss_change": 0.01},
        "Test loss at the end, both with 4-7-26 units. Closed units are opened after an epoch, with the weights that "
        "they had, before each choice and once more after epoch 6.",
        picture="losses",
        why=(
            "Of the units that were closed at some time, {reopened_came_back} are open at the end, and "
            "{reopened_chosen_otherwise} of the 51 closed ones are others than where units are removed for good: an "
            "epoch later the saliency mostly chooses the same, and what it chooses last has an epoch less to recover "
            "in. The figure shows beside it a copy whose units open with new weights, and one whose units all train "
            "for an epoch before the last choice."
        ),
    ),
    Claim(
        "F2.2", NODES, "Removing nodes disrupts more than removing edges.", '"risks"',
        Difference("units_less_weights_mean", above=0),
        {"units_less_weights_mean": 0.5}, {"units_less_weights_mean": -0.1},
        "Rise of the trained twin's test loss without training on, units by mean replacement saliency with means "
        "propagated against the smallest weights at as many parameters; mean over 0.1, 0.2, 0.4 and 0.6.",
        picture="disruption",
    ),
)  # fmt: skip
"""In the order of their numbers."""
