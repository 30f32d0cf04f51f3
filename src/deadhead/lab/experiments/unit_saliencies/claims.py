"""What Evci (2018), section 4.1, claims about saliencies of units, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import FAILS, HOLDS, OPEN, PART, Difference, Every, InBand, Judge, Judgement, Results, Share

TAKEAWAY = (
    "Half of the units of a trained layer, those of lowest mean replacement penalty, cost {relu_half_mean} nats of "
    "test loss with ReLU and {tanh_half_mean} with Tanh when means replace them, and {relu_half_obs} and "
    "{tanh_half_obs} when the optimal brain surgeon chooses and the next layer is refitted: what makes up for "
    "removed units matters beside how they are chosen."
)
VARIANTS: Mapping[str, Mapping[str, Any]] = {}
FACTORS = ("0.1", "0.2", "0.4", "0.5", "0.6", "0.8")


class AnyOf:
    """One of several judges: holds where one of them does, else the best verdict."""

    def __init__(self, *judges: Judge) -> None:
        self.judges = judges

    def __call__(self, results: Results) -> Judgement:
        found = [judge(results) for judge in self.judges]
        best = min((each.verdict for each in found), key=(HOLDS, PART, FAILS, OPEN).index)
        return Judgement(best, tuple(number for each in found for number in each.numbers))


def _below(names: tuple[str, ...], **options: float) -> list[Difference]:
    return [Difference(name, below=0, **options) for name in names]


CONSTANTS = tuple(f"tanh_{constant}_less_mean" for constant in ("median", "min", "max"))
ZERO = tuple(f"{net}_mean_less_zero_{factor}" for net in ("relu", "tanh") for factor in FACTORS)

CLAIMS = (
    Claim(
        "E6.1", "Evci (2018), section 4.1", "The intact networks reach these values.",
        "ReLU 98.8 %, 0.046, 0.039; Tanh 98.31 %, 0.053, 0.056 (training, test loss)",
        Every(
            InBand("relu_accuracy", 98.4, 99.2), InBand("relu_train_loss", 0.026, 0.066),
            InBand("relu_test_loss", 0.019, 0.059), InBand("tanh_accuracy", 97.91, 98.71),
            InBand("tanh_train_loss", 0.033, 0.073), InBand("tanh_test_loss", 0.036, 0.076),
        ),
        {"relu_accuracy": 98.8, "relu_train_loss": 0.046, "relu_test_loss": 0.039, "tanh_accuracy": 98.31,
         "tanh_train_loss": 0.053, "tanh_test_loss": 0.056},
        {"relu_accuracy": 10.0, "relu_train_loss": 2.3, "relu_test_loss": 2.3, "tanh_accuracy": 10.0,
         "tanh_train_loss": 2.3, "tanh_test_loss": 2.3},
    ),
    Claim(
        "E6.2", "Evci (2018), section 4.1.1", "In conv1, all four saliencies pick the same 4 of 8 units.", "same 4",
        Share("overlaps", low=3.5), {"overlaps": [4.0] * 6}, {"overlaps": [4.0, 2.0, 4.0, 2.0, 4.0, 2.0]},
        "Units that two choose in common, mean over training, for each pair.", picture="conv1",
    ),
    Claim(
        "E6.3", "Evci (2018), section 4.1.1", "In conv1, a random half costs up to 100 times more.", "100 times",
        Every(Share("random_ratio_median", low=3), Share("random_ratio_largest", low=30)),
        {"random_ratio_median": 10.0, "random_ratio_largest": 90.0},
        {"random_ratio_median": 1.0, "random_ratio_largest": 3.0},
        "Rise of the loss over that of the lowest penalties; below 0.0001 it counts as 0.0001.", picture="conv1",
    ),
    Claim(
        "E6.4", "Evci (2018), section 4.1.3", "Half of fc1: MRP is best, then MRS; norms diverge after 5,000 steps.",
        "5,000",
        Every(
            Difference("late_mrs_less_mrp", above=0), Difference("late_l1_less_mrs", above=0),
            Difference("late_l2_less_mrs", above=0), Difference("gap_growth", above=0),
        ),
        {"late_mrs_less_mrp": 0.01, "late_l1_less_mrs": 0.02, "late_l2_less_mrs": 0.02, "gap_growth": 0.02},
        {"late_mrs_less_mrp": -0.01, "late_l1_less_mrs": -0.02, "late_l2_less_mrs": -0.02, "gap_growth": -0.02},
        "Rises of the loss after step 5,000; the gap is that of norms to MRP, less the one before. fc1 has 64 units: "
        "the 256 of the text are its inputs.",
        picture="fc1-relu",
        why=(
            "Least squares on the next layer brings the rise of the test loss for the half of lowest penalty, at the "
            "end, from {relu_half_mean} to {relu_half_refitted}."
        ),
    ),
    Claim(
        "E6.5", "Evci (2018), section 4.1.3 and appendix E", "ReLU: above 0.1, MRP or MRS is almost always best.",
        '"almost constantly"', Share("best_shares", low=0.8), {"best_shares": [0.95, 0.95]},
        {"best_shares": [0.5, 0.4]},
        "Share of measurements and factors (0.2 to 0.8; the last two are choices) at which one of them is not above "
        "both norms; in conv2 and in fc1.",
        picture="fc1-relu",
    ),
    Claim(
        "E6.6", "Evci (2018), section 4.1.3",
        "At 0.1 norms are worse early and level late; pruning improves the loss at times.", "shape",
        Every(
            Difference("tenth_early", above=0), Difference("tenth_late", above=-0.1, below=0.1),
            Share("tenth_negative", low=0.01),
        ),
        {"tenth_early": 0.01, "tenth_late": 0.0, "tenth_negative": 0.1},
        {"tenth_early": -0.01, "tenth_late": 2.0, "tenth_negative": 0.0},
        "A tenth of fc1 with ReLU: norms less mean replacement in the first fifth of training; their ratio less 1 in "
        "the last; the share of measurements with a negative rise.",
        picture="fc1-relu",
    ),
    Claim(
        "E6.7", "Evci (2018), section 4.1.4",
        "Tanh: MRP and MRS are best at 0.1 and 0.2, norms at 0.4 and 0.5; then MRP is first and MRS last.", "pattern",
        Every(
            Difference("tanh_small", above=0), Difference("tanh_middle", below=0),
            Difference("tanh_large_mrp", below=0), Difference("tanh_large_mrs", above=0),
        ),
        {"tanh_small": 0.01, "tanh_middle": -0.01, "tanh_large_mrp": -0.1, "tanh_large_mrs": 0.1},
        {"tanh_small": -0.01, "tanh_middle": 0.01, "tanh_large_mrp": 0.1, "tanh_large_mrs": -0.1},
        "fc1, mean over training: norms less mean replacement; at 0.6 and 0.8 MRP less the best other, MRS less the "
        "worst other.",
        picture="fc1-tanh",
    ),
    Claim(
        "E6.8", "Evci (2018), section 4.1.4", "Tanh costs up to seven times as much as ReLU.", "7 times",
        Every(Difference("tanh_over_relu", above=1), InBand("tanh_over_relu_largest", 3, 15, side=(1, 100))),
        {"tanh_over_relu": 4.0, "tanh_over_relu_largest": 7.0},
        {"tanh_over_relu": 0.5, "tanh_over_relu_largest": 0.9},
        "fc1, units of lowest penalty: ratio of mean rises through training, factors 0.4 to 0.8, mean and largest. "
        "Factors below are left out: with ReLU they cost about nothing, so that the ratio says nothing.",
        picture="fc1-tanh",
        why=(
            "How much of that is the mean's doing: for half of fc1 at the end, refitting the next layer by least "
            "squares brings the rise of the test loss from {tanh_half_mean} to {tanh_half_refitted}, with ReLU from "
            "{relu_half_mean} to {relu_half_refitted}."
        ),
    ),
    Claim(
        "E6.9", "Evci (2018), section 4.1.5", "Tanh bears the loss of a random half better.", "about 3 times less",
        Every(Difference("random_tanh_over_relu", below=1), InBand("random_tanh_over_relu", 0.2, 0.6, side=(0, 1))),
        {"random_tanh_over_relu": 0.35}, {"random_tanh_over_relu": 1.5},
        "Half of fc1, mean of ten random halves: ratio of mean rises through training.", picture="fc1-tanh",
    ),
    Claim(
        "E6.10", "Evci (2018), section 4.1.5", "Tanh, half: no saliency does much better than chance.",
        '"not significantly"', Share("best_over_random", low=0.8), {"best_over_random": 0.9},
        {"best_over_random": 0.3},
        "fc1: rise of the best saliency over the mean of ten random halves.", picture="fc1-tanh",
        why=(
            "With ReLU the same ratio is {best_over_random_relu}. With Tanh, refitted by least squares, the half of "
            "lowest penalty costs {tanh_half_refitted} nats of test loss at the end, by means {tanh_half_mean}."
        ),
    ),
    Claim(
        "E6.11", "Evci (2018), sections 3.1 and 4.1.4", "For Tanh another constant than the mean is better.",
        "median, minimum or maximum", AnyOf(*_below(CONSTANTS, confidence=0.983)),
        dict.fromkeys(CONSTANTS, 0.5) | {"tanh_median_less_mean": -0.1}, {"tanh_median_less_mean": 0.1},
        "fc1, all factors: rise of the loss less that by means. Each constant chooses by its own penalty. One of three "
        "suffices, so that each interval is one of 98.3 %.",
        picture="constants",
        why=(
            "Against the mean, the median changes the rise by {tanh_median_less_mean}, the minimum by "
            "{tanh_min_less_mean} and the maximum by {tanh_max_less_mean} nats (with ReLU {relu_median_less_mean}, "
            "{relu_min_less_mean} and {relu_max_less_mean}). Refitting the next layer by least squares makes "
            "{tanh_half_refitted} of {tanh_half_mean} for half of fc1 at the end."
        ),
    ),
    Claim(
        "E6.12", "Evci (2018), section 3.1", "The mean after the nonlinearity costs less than the mean before it.",
        '"probably"', Every(*_below(("relu_after_less_before", "tanh_after_less_before"))),
        {"relu_after_less_before": -0.1, "tanh_after_less_before": -0.1},
        {"relu_after_less_before": 0.1, "tanh_after_less_before": 0.1},
        "The same units, all layers and factors; behind conv2 each position has its own mean, as the next layer reads "
        "them.",
        picture="constants",
    ),
    Claim(
        "E6.13", "Evci (2018), section 3.7", "MRS is more exact for units of small MRP.", "smaller error term",
        Share("error_rho", low=0.2), {"error_rho": [0.4, 0.4]}, {"error_rho": [-0.3, 0.0]},
        "Rank correlation of MRP with abs(MRS - MRP) / MRP over a layer's units, mean over layers and training; ReLU "
        "and Tanh.",
        why=(
            "The rank correlation of MRS with MRP is {mrs_rho} over layers, ReLU and Tanh."
        ),
    ),
    Claim(
        "E6.14", "Evci (2018), section 4.1.2", "Units of low MRP have a small norm.", "shape",
        Difference("norm_rho", above=0.3), {"norm_rho": 0.6}, {"norm_rho": -0.1},
        "ReLU: rank correlation of MRP with the L1 norm over a layer's units, mean over layers and training.",
    ),
    Claim(
        "E7.1", "Evci (2018), section 3.1", "Replacing units by their mean beats replacing them by zero.", '"expect"',
        Every(*_below(ZERO)), dict.fromkeys(ZERO, -0.1), dict.fromkeys(ZERO, 0.1),
        "The units of lowest penalty in conv2 and fc1 (and of conv1 at 0.5), each factor, ReLU and Tanh: rise by means "
        "less rise by zeros.",
        picture="constants",
    ),
)  # fmt: skip
"""In the order of their numbers."""
