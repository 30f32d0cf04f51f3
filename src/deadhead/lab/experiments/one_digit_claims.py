"""What Wolfe et al. (2016) say about networks whose training was stopped early, and how it is judged."""

from __future__ import annotations

from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Share

PAPER = "Wolfe et al. (2016), section "

VARIANTS: dict[str, dict[str, Any]] = {
    "normal start": {"start": "normal", "start_epochs": 3, "most_epochs": 6, "beside": False},
}
"""Weights and biases from the standard normal distribution: large ones, which the output layer has to cancel."""

TAKEAWAY = ""

CLAIMS = (
    Claim(
        "D6.1", PAPER + "4.5", "Brute force improves the error at first.", "for each digit",
        Share("lowest_within_10", high=0.99),
        {"lowest_within_10": [0.9, 0.9, 0.9]}, {"lowest_within_10": [0.9, 1.0, 1.1]},
        "Lowest error within ten removals, to the intact network's, digits 0, 1 and 2.",
        "errors", variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.2", PAPER + "4.5", "By brute force the error stays within its start until 60 to 80 % are removed.",
        "0: 60 %; 1: 80 %, still improving; all 60 to 80 %",
        Every(Share("first_above_0", low=0.55), Share("first_above_1", low=0.75), Share("first_above_2", low=0.55)),
        {"first_above_0": 0.6, "first_above_1": 0.8, "first_above_2": 0.7},
        {"first_above_0": 0.1, "first_above_1": 0.1, "first_above_2": 0.1},
        "Share of units removed when the error is first above the intact network's.",
        "errors", variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.3", PAPER + "4.5.1", "Digit 0: the quadratic criterion beats the linear one, which explodes at once.",
        "shape",
        Every(Difference("quadratic_over_linear_0", below=0), Share("linear_within_5_0", low=2)),
        {"quadratic_over_linear_0": -0.5, "linear_within_5_0": 4.0},
        {"quadratic_over_linear_0": 0.5, "linear_within_5_0": 1.0},
        "Mean log error over the curve; the linear criterion's highest error within five removals, to the start's.",
        "errors", variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.4", PAPER + "4.5.2", "Digit 1: both Taylor criteria fail early and never recover.", "shape",
        Every(Share("taylor_free_1", high=0.3), Share("taylor_after_failure_1", low=1)),
        {"taylor_free_1": [0.1, 0.1], "taylor_after_failure_1": [1.5, 1.5]},
        {"taylor_free_1": [0.8, 0.8], "taylor_after_failure_1": [0.8, 0.8]},
        "Failure: 5 % of the way to the error with no unit. Lowest error after it, to the intact network's.",
        "errors", variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.5", PAPER + "4.5.3", "Digit 2: the linear criterion vastly beats the quadratic one.", '"vastly"',
        Difference("linear_over_quadratic_2", below=0),
        {"linear_over_quadratic_2": -0.5}, {"linear_over_quadratic_2": 0.5},
        "Mean log error over the curve.", "errors", variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.6", PAPER + "4.5.3", "Digit 2: the error at the end is little above the start's.", "shape",
        Share("end_2", high=1.5), {"end_2": 1.2}, {"end_2": 5.0},
        "With no unit left, where all curves meet.", "errors", variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.7", PAPER + "4.5", "The improvement comes from early stopping.", "none",
        Difference("gain_over_twin", above=0), {"gain_over_twin": 0.1}, {"gain_over_twin": -0.1},
        "By how much the error is lower at its lowest than at the start, relative, less the same of a twin that is "
        "trained on; mean over the digits.", "twins", variants=tuple(VARIANTS),
    ),
)  # fmt: skip
"""In the order of the paper."""
