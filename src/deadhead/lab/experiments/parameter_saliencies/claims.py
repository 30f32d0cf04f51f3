"""What Evci (2018), section 2.1, claims of the saliencies of single weights, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, InBand, Share

PAPER = "Evci (2018), "
TAKEAWAY = (
    "Removing weights because their loss change is negative fits the images that were asked: 2 of 200 improve their "
    "loss at {tanh_improved_by_2:mean%} of the checkpoints, and that of other images at "
    "{tanh_improved_by_2_held_out:mean%}. For 160 of 200 at once, magnitude costs {relu_mean_change.magnitude:mean} "
    "nats, the loss change {relu_mean_change.loss_change:mean}, and the optimal brain surgeon, which refits what "
    "remains, {relu_mean_change.surgeon:mean}."
)
WHY_TIMES = (
    "Second order costs {second_over_first_x1:mean} times first order in the small network, less than the thesis "
    "measured, and about as much in one of four times its units: a Hessian-vector product is a second backward pass. "
    "What fails is magnitude's share: reading the images and finding the graph takes {seconds_x1.magnitude:mean} s, "
    "whatever the score, of the {seconds_x1.taylor1:mean} s of first order; the larger the network, the less it "
    "counts."
)
WHY_NEGATIVE = (
    "The level is the thesis's, {relu_negative:mean%}, and the constancy is not: over checkpoints and seeds the "
    "fraction lies at {relu.negative.loss_change:%}. It falls while the network leaves its random start, which owes "
    "nothing to most of its weights, and grows again as the network fits: by {relu_negative_last_less_first} from the "
    "first fifth to the last, with tanh by {tanh_negative_last_less_first}. It counts weights that hardly matter, "
    "too: {relu.negative.tiny:mean%} of them change the loss by less than 0.00001."
)
WHY_RAW = (
    "Raw scores are worse for every score in the mean; what is not beyond doubt in five seeds is the Hessian row, and "
    "Taylor 2 that contains it: with ReLU the raw row costs {relu_mean_change.hessian_row} nats, its absolute "
    "{relu_mean_change.hessian_row, absolute}. In some seeds the two hardly differ "
    "({relu_absolute_less_raw_hessian_row}), in others the lowest rows are late in training large negative ones, "
    "whose weights matter. The loss change itself is clear: {relu_absolute_less_raw_loss_change} with ReLU, "
    "{tanh_absolute_less_raw_loss_change} with tanh."
)
WHY_MAGNITUDE = (
    "With tanh magnitude is far ahead ({tanh_mean_change.magnitude} nats; less the Hessian row "
    "{tanh_magnitude_less_hessian_row}, less Taylor 2 {tanh_magnitude_less_taylor2}). With ReLU the "
    "absolute scores of second order are as good in some seeds: magnitude less Taylor 2 is "
    "{relu_magnitude_less_taylor2}, less the Hessian row {relu_magnitude_less_hessian_row}; they see that weights of "
    "a unit go together, which loss change and Taylor 1 do not. Their spread about the running mean is "
    "{relu_spread_over_magnitude} times that of magnitude. No order of removal comes near refitting what remains: "
    "{relu_mean_change.surgeon} nats."
)
SCORES = ("loss_change", "taylor1", "taylor2", "hessian_row")
BOTH = ("relu", "tanh")
FEWER = "Checkpoints every 50 steps up to step 1,000 and every 200 after it, where the thesis has 50 throughout. "


def _all(start: str, value: float) -> dict[str, float]:
    return {f"{activation}_{start}_{name}": value for activation in BOTH for name in SCORES}


def _spreads(value: float) -> dict[str, list[float]]:
    return {f"{activation}_spread_over_magnitude": [value] * 4 for activation in BOTH}


CLAIMS = (
    Claim(
        "E1.1", PAPER + "table 2.1", "Second order costs 6 to 7 times first order, whatever the size.",
        "0.088, 0.564, 0.483 and 0.00006 s",
        Every(
            InBand("second_over_first_x1", 3, 10), InBand("second_over_first_x4", 3, 10),
            InBand("magnitude_over_first_x1", 0, 0.01), InBand("magnitude_over_first_x4", 0, 0.01),
        ),
        {"second_over_first_x1": 6.0, "second_over_first_x4": 6.0, "magnitude_over_first_x1": 0.001,
         "magnitude_over_first_x4": 0.001},
        {"second_over_first_x1": 1.5, "second_over_first_x4": 50.0, "magnitude_over_first_x1": 0.5,
         "magnitude_over_first_x4": 0.5},
        "All parameters on 1,000 images, the network and one of four times its units; magnitude over taylor1 as time.",
        "times", WHY_TIMES,
    ),
    Claim(
        "E3.1", PAPER + "section 2.1.1", "About 35 % of conv1's weights have a negative saliency, throughout.", "35 %",
        Every(InBand("relu_negative", 0.25, 0.45), Share("relu_negative_last_less_first", -0.1, 0.1)),
        {"relu_negative": 0.35, "relu_negative_last_less_first": 0.01},
        {"relu_negative": 0.05, "relu_negative_last_less_first": 0.4},
        FEWER + "Loss change; the mean over checkpoints, and that of the last fifth less that of the first.",
        "negative", WHY_NEGATIVE,
    ),
    Claim(
        "E3.2", PAPER + "section 2.1.2", "Removing the 2 of 200 weights of lowest loss change always improves it.",
        "f = 0.01",
        Share("tanh_improved_by_2", low=0.9), {"tanh_improved_by_2": 1.0}, {"tanh_improved_by_2": 0.3},
        "Tanh; share of checkpoints with a lower loss, on the images that chose the weights, as in the thesis.",
        "groups",
    ),
    Claim(
        "E3.3", PAPER + "section 2.1.3",
        "Removing 10 of 200 improves the loss at first, and worsens it after about 1,000 steps.", "f = 0.05",
        Every(Share("tanh_change_by_10_before", high=0), Share("tanh_change_by_10_after", low=0)),
        {"tanh_change_by_10_before": -0.01, "tanh_change_by_10_after": 0.01},
        {"tanh_change_by_10_before": 0.01, "tanh_change_by_10_after": -0.01},
        "Tanh; means up to step 1,000 and after it.",
        "groups",
    ),
    Claim(
        "E3.4", PAPER + "section 2.1.3", "Dependency between weights grows in training.", "figure 2.2",
        Share("tanh_interaction_growth", low=0.3),
        {"tanh_interaction_growth": 0.7}, {"tanh_interaction_growth": -0.2},
        "Tanh; rank correlation of the step with the loss change of the 10 weights less the sum of theirs alone.",
        "groups",
    ),
    Claim(
        "E3.5", PAPER + "section 2.1.4", "Approximations match the loss change early in training, and not late.",
        "peaks",
        Every(*(Difference(f"tanh_gap_growth_{name}", above=0) for name in SCORES[1:])),
        {f"tanh_gap_growth_{name}": 0.01 for name in SCORES[1:]},
        {f"tanh_gap_growth_{name}": -0.01 for name in SCORES[1:]},
        "Tanh, 10 weights; distance of the change of the loss to that by the loss change's own choice, mean over the "
        "last fifth of checkpoints less that over the first.",
        "groups",
    ),
    Claim(
        "E3.6", PAPER + "section 2.1.4", "Taylor 1 ranks closest to the loss change.", "figure 2.4",
        Every(Difference("rho_taylor1_less_taylor2", above=0), Difference("rho_taylor1_less_hessian", above=0)),
        {"rho_taylor1_less_taylor2": 0.3, "rho_taylor1_less_hessian": 0.5},
        {"rho_taylor1_less_taylor2": -0.3, "rho_taylor1_less_hessian": -0.5},
        "ReLU, at the end of training; rank correlations over the 200 weights.",
        "ranks",
    ),
    Claim(
        "E3.7", PAPER + "section 2.1.5", "Taylor scores fail for groups: absolute scores beat raw ones.", "160 of 200",
        Every(*(Difference(name, below=0) for name in _all("absolute_less_raw", 0))),
        _all("absolute_less_raw", -1.0), _all("absolute_less_raw", 1.0),
        "Mean over checkpoints of the loss change by 160 weights of lowest absolute score less that by lowest raw "
        "score, for each of four scores, ReLU and tanh.",
        "most", WHY_RAW,
    ),
    Claim(
        "E3.8", PAPER + "section 2.1.5", "Weights of small absolute scores depend less on each other.", "none",
        Difference("relu_interaction_absolute_less_lowest", below=0),
        {"relu_interaction_absolute_less_lowest": -0.01}, {"relu_interaction_absolute_less_lowest": 0.01},
        "ReLU, groups of 10 by loss change; mean absolute interaction of the smallest absolute scores less that of the "
        "lowest raw ones.",
        "groups",
    ),
    Claim(
        "E3.9", PAPER + "section 2.1.6", "Magnitude prunes best, and most stably.", "160 of 200",
        Every(
            *(Difference(name, below=0) for name in _all("magnitude_less", 0)),
            Share("relu_spread_over_magnitude", low=1), Share("tanh_spread_over_magnitude", low=1),
        ),
        {**_all("magnitude_less", -1.0), **_spreads(2.0)},
        {**_all("magnitude_less", 1.0), **_spreads(0.5)},
        "Mean loss change less that of each absolute score, ReLU and tanh; spread of each absolute score about its "
        "running mean of 11 checkpoints, over that of magnitude.",
        "most", WHY_MAGNITUDE,
    ),
    Claim(
        "E3.10", PAPER + "section 2.1.6", "Absolute ranks resemble the loss change's; magnitude's do somewhat.",
        "figure 2.6",
        Every(Share("rho_absolute", low=0.6), Share("rho_magnitude", low=0.2)),
        {"rho_absolute": [0.8] * 3, "rho_magnitude": 0.4}, {"rho_absolute": [0.1] * 3, "rho_magnitude": -0.1},
        "ReLU, at the end of training; rank correlations with the absolute loss change.",
        "ranks",
    ),
)  # fmt: skip
"""In the order of the thesis."""
