"""What the comments on "Train first vs prune first in neural networks" claim, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact, Share

TITLE = '"Train first vs prune first in neural networks", comments'

TAKEAWAY = (
    "The certificate is safe and loose: over {removals:mean} removals in each seed a change of the loss was at most "
    "{worst_ratio:mean%} of its bound, and in trained networks usually {bounds.spiral, trained.median_ratio:mean%} "
    "(spiral) and {bounds.small CNN.median_ratio:mean%} (CNN) of it; use it to prove that a unit can go, and a "
    "measured score to choose one. Refit what remains: without the half of each layer that varies least, the loss on "
    "unseen points rises from {intact_loss:mean} to {at_most_removed.mean:mean} with means and to "
    "{at_most_removed.least squares:mean} with least squares; chosen by the optimal brain surgeon and refitted it is "
    "{at_most_removed.obs, least squares:mean}."
)

CLAIMS = (
    Claim(
        "C6.1", TITLE, "With abundant data pruning often improves generalisation.", '"often"',
        Difference("falls_with_most_points", above=0.5),
        {"falls_with_most_points": 0.8}, {"falls_with_most_points": 0.0},
        "Share of removals (0.1 to 0.5 of each hidden layer, smallest deviation first, replaced by means) after which "
        "the loss on points that nothing was chosen by is lower by more than 0.1 %, at 5000 training points.",
        picture="unseen",
        why="Nothing is left to gain: with 5000 points the loss on unseen points is {intact_loss} intact, and with "
        "half of each hidden layer chosen by the optimal brain surgeon and refitted it is "
        "{at_most_removed.obs, least squares}, so that the removed units fitted no noise. What raises it is "
        "replacement by the mean, which ends at {at_most_removed.mean}. Training on afterwards brings it to "
        "{at_most_removed.mean, fine-tuned}, which is below an intact network trained on as long for "
        "{falls.mean, fine-tuned[2]:mean%} of the removals. Falls are found where points are few: for 200 points and "
        "least squares, {falls.least squares[0]:mean%} of the removals lower the loss, for 5000 "
        "{falls.least squares[2]:mean%}.",
    ),
    Claim(
        "C6.2", TITLE + ", the bound",
        "The loss changes by at most K times the deviation, K the product of the norms behind the unit.", "K",
        Every(
            Exact("worst_ratio", 1.0, "worst_ratio_at_hundredth"),
            Exact("worst_ratio_without_root_two", 1.0, "worst_ratio_at_hundredth"),
        ),
        {"worst_ratio": 0.05, "worst_ratio_without_root_two": 0.07, "worst_ratio_at_hundredth": 5.0},
        {"worst_ratio": 1.2, "worst_ratio_without_root_two": 1.7, "worst_ratio_at_hundredth": 120.0},
        "The largest ratio of a mean absolute change of the loss to its bound over all removals; K is sqrt(2) times "
        "the product, as two logits can move against each other, and without that factor, as in the comment. The "
        "control is a hundredth of K. Judged on the points whose means and deviations were taken, which training did "
        "not see.",
        picture="bounds",
    ),
    Claim(
        "C6.3", TITLE + ", end", "Small deviation, small effect, with exceptions: a large deviation may be ignored.",
        "shape", Every(Share("deviation_effect_rho", low=0.5), Share("exceptions", low=1)),
        {"deviation_effect_rho": 0.8, "exceptions": 2}, {"deviation_effect_rho": 0.1, "exceptions": 0},
        "Rank correlation over the units of both layers of deviation and absolute change of the mean loss on unseen "
        "points; exceptions are units of the top quarter by deviation and the bottom quarter by effect.",
        picture="effects",
        why="The rank correlation is there, the exceptions hardly are: the quarter of the units with the smallest "
        "effects is that of the (nearly) constant ones ({quiet_share_of_small_effects:mean%} of it have a deviation "
        "below 5 % of the largest), which leaves no place for a unit of large deviation. Deviation is a coarse guide "
        "all the same: among the quarter with the largest deviations the effects differ by a factor of "
        "{effect_spread_of_large} (10th to 90th percentile). With the norms behind the unit, as in the certificate, "
        "the rank correlation is {bound_effect_rho} in the place of {deviation_effect_rho}.",
    ),
)  # fmt: skip
"""In the order of the comments."""
