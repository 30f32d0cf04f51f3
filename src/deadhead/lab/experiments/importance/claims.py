"""What "Pruning in Neural Networks: Purpose and Concept" claims of importance, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every

TAKEAWAY = (
    "Half of every layer's weights cost {change.magnitude:mean} nats where the smallest go, {change.adjusted:mean} "
    "where those go that training adjusted least, and {change.random:mean} at random; the gradient at the end is no "
    "stand-in for either ({change.gradient:mean}). Whole units for the same number of parameters, chosen by obs and "
    "their consumers refitted, cost {structure.obs, least squares:mean} nats."
)

CLAIMS = (
    Claim(
        "F3.1", '"Pruning in Neural Networks: Purpose and Concept", how pruning decisions are made',
        "The smallest weights, and those least adjusted in training, matter least.", "none",
        Every(Difference("magnitude_less_random", below=0), Difference("adjusted_less_random", below=0)),
        {"magnitude_less_random": -0.5, "adjusted_less_random": -0.4},
        {"magnitude_less_random": 0.5, "adjusted_less_random": 0.4},
        "Change of the test loss by removing half of every layer's weights, less that of random halves (mean of ten). "
        "Least adjusted: the smallest sum of absolute steps of training.",
        "curve",
    ),
)  # fmt: skip
"""The one claim."""
