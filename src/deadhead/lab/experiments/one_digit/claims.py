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

TAKEAWAY = (
    "Removing units improves a network only as far as its units disturb it: from a small start, stopped early, brute "
    "force lowered the error by {gain[0]:mean%}, from large initial weights that training had not cancelled by "
    "{normal start.gain[0]:mean%} (digit 0). With 60 of 100 units removed the error is {at_60_brute_force:mean} times "
    "the start's, and {at_60_least_squares:mean} times after the remaining weights are refitted by least squares."
)

CLAIMS = (
    Claim(
        "D6.1", PAPER + "4.5", "Brute force improves the error at first.", "for each digit",
        Share("lowest_within_10", high=0.99),
        {"lowest_within_10": [0.9, 0.9, 0.9]}, {"lowest_within_10": [0.9, 1.0, 1.1]},
        "Lowest error within ten removals, to the intact network's, digits 0, 1 and 2.",
        "errors",
        "What brute force can gain is the disturbance that training has not cancelled, and from torch's small start "
        "there is little: the outputs read each hidden unit with a weight difference of {output_weight[0]}, and the "
        "gain at best is {gain[0]:%}, {gain[1]:%} and {gain[2]:%} for the digits 0, 1 and 2. From a start with normal "
        "weights and biases, as in Nielsen (2015), that difference is {normal start.output_weight[0]}, and the gain "
        "{normal start.gain[0]:%}, {normal start.gain[1]:%} and {normal start.gain[2]:%}: the paper's figures look "
        "like that start, though its accuracies are higher than those that three epochs from it reach ({normal "
        "start.start_accuracy:%}).",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.2", PAPER + "4.5", "By brute force the error stays within its start until 60 to 80 % are removed.",
        "0: 60 %; 1: 80 %, still improving; all 60 to 80 %",
        Every(Share("first_above_0", low=0.55), Share("first_above_1", low=0.75), Share("first_above_2", low=0.55)),
        {"first_above_0": 0.6, "first_above_1": 0.8, "first_above_2": 0.7},
        {"first_above_0": 0.1, "first_above_1": 0.1, "first_above_2": 0.1},
        "Share of units removed when the error is first above the intact network's.",
        "errors",
        "From torch's start most units are used, and the error passes its start after {first_above_0:%}, "
        "{first_above_1:%} and {first_above_2:%} of the units; from a normal start, where most units disturb, after "
        "{normal start.first_above_0:%}, {normal start.first_above_1:%} and {normal start.first_above_2:%}. Refitting "
        "the remaining weights by least squares does it from torch's start, too: with 60 % removed the error is "
        "{at_60_least_squares} times the start's, without it {at_60_brute_force} times.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.3", PAPER + "4.5.1", "Digit 0: the quadratic criterion beats the linear one, which explodes at once.",
        "shape",
        Every(Difference("quadratic_over_linear_0", below=0), Share("linear_within_5_0", low=2)),
        {"quadratic_over_linear_0": -0.5, "linear_within_5_0": 4.0},
        {"quadratic_over_linear_0": 0.5, "linear_within_5_0": 1.0},
        "Mean log error over the curve; the linear criterion's highest error within five removals, to the start's.",
        "errors",
        "Small output weights make the loss nearly linear in each gate: the linear criterion's error within five "
        "removals is at most {linear_within_5_0} times the start's, and the two criteria are alike (difference of "
        "mean log errors {quadratic_over_linear_0}). From a normal start they are {normal start.linear_within_5_0} "
        "times and {normal start.quadratic_over_linear_0}: larger differences, in either direction, and no explosion "
        "either.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.4", PAPER + "4.5.2", "Digit 1: both Taylor criteria fail early and never recover.", "shape",
        Every(Share("taylor_free_1", high=0.3), Share("taylor_after_failure_1", low=1)),
        {"taylor_free_1": [0.1, 0.1], "taylor_after_failure_1": [1.5, 1.5]},
        {"taylor_free_1": [0.8, 0.8], "taylor_after_failure_1": [0.8, 0.8]},
        "Failure: 5 % of the way to the error with no unit. Lowest error after it, to the intact network's.",
        "errors",
        "With small output weights both estimates are nearly exact, and the error stays flat for {taylor_free_1[0]:%} "
        "(linear) and {taylor_free_1[1]:%} (quadratic) of the units, as with brute force. From a normal start, where "
        "removals are large steps, {normal start.taylor_free_1[0]:%} and {normal start.taylor_free_1[1]:%}; 5 % of "
        "the way to the error with no unit is a wide margin there, because the error starts high.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.5", PAPER + "4.5.3", "Digit 2: the linear criterion vastly beats the quadratic one.", '"vastly"',
        Difference("linear_over_quadratic_2", below=0),
        {"linear_over_quadratic_2": -0.5}, {"linear_over_quadratic_2": 0.5},
        "Mean log error over the curve.", "errors",
        "The difference of mean log errors, linear less quadratic, is {linear_over_quadratic_2} from torch's start, "
        "where both estimates are nearly exact, and {normal start.linear_over_quadratic_2} from a normal one, where "
        "removals are large steps and the curvature at the start of a step misleads. The paper's case is a single "
        "network.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.6", PAPER + "4.5.3", "Digit 2: the error at the end is little above the start's.", "shape",
        Share("end_2", high=1.5), {"end_2": 1.2}, {"end_2": 5.0},
        "With no unit left, where all curves meet.", "errors",
        "With no unit left the outputs are constant, and the error is {end_2} times the start's. It is near the "
        "start's only where the start is bad: from a normal start, with an accuracy of {normal "
        "start.start_accuracy[2]:%} where it is {start_accuracy[2]:%} here, {normal start.end_2} times.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D6.7", PAPER + "4.5", "The improvement comes from early stopping.", "none",
        Difference("gain_over_twin", above=0), {"gain_over_twin": 0.1}, {"gain_over_twin": -0.1},
        "By how much the error is lower at its lowest than at the start, relative, less the same of a twin that is "
        "trained on; mean over the digits.", "twins",
        "From torch's start there is little that training could cancel: the gain is {gain_over_twin:%} of the error "
        "larger than the twin's, whose accuracies are {twin_accuracy:%}. From a normal start it is {normal "
        "start.gain_over_twin:%} larger, though the twins are trained on for six epochs only and reach {normal "
        "start.twin_accuracy:%}: most of the disturbance outlasts them, so that it comes from the start and not from "
        "stopping early.",
        variants=tuple(VARIANTS),
    ),
)  # fmt: skip
"""In the order of the paper."""
