"""What Wolfe et al. (2016) say about error surfaces of removed units, and how it is judged."""

from __future__ import annotations

from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Share

PAPER = "Wolfe et al. (2016), section "

VARIANTS: dict[str, dict[str, Any]] = {
    "squared error": {
        "loss": "squared_error", "learning_rate": 0.01, "most_epochs": 60, "samples": 200, "step": 0.01,
    },
}  # fmt: skip
"""Training by the paper's own loss, which stops below the paper's accuracy (see `mnist20`)."""

TAKEAWAY = (
    "The gain of a unit that can be removed is not free: in networks that fit their data well, four times the gain "
    "changed the error by {quadrupled:mean%} or more even for the most indifferent of the units that were removed. The "
    "linear estimate has the wrong sign for {linear_wrong_sign:mean%} of the units that it picks with two layers: try "
    "a unit (`oracle`) before you trust a slope."
)

CLAIMS = (
    Claim(
        "D8.1", PAPER + "4.3.3", "The gain of some units may be doubled, tripled or quadrupled without effect.",
        "gain 0 to 10 by 0.001",
        Share("quadrupled", high=0.01), {"quadrupled": 0.001}, {"quadrupled": 0.3},
        "The smallest relative change of the error from gain 1 to gain 4, over every tenth unit that each of the three "
        "criteria removes from one layer.",
        "one",
        "It depends on how the network was trained. At the paper's accuracy, which takes training by cross-entropy, "
        "the smallest change from gain 1 to gain 4 is {quadrupled:%} of the error, though no more than "
        "{quadrupled_of_bare:%} of the error with no unit, which a plot in real space does not show. Trained by "
        "squared error, as in the paper, but short of its accuracy, some networks have such units: the smallest "
        "change is {squared error.quadrupled:%}, and {squared error.quadrupled_share:%} of the curves change by less "
        "than 1 %.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.2", PAPER + "4.3.3", "Units that are removed later have steeper surfaces past 1.0.", '"ideally"',
        Share("steeper", low=0.5), {"steeper": [0.8, 0.7]}, {"steeper": [0.0, -0.2]},
        "Rank correlation of the order of removal by brute force with log(E(2) / E(1)), one layer and two.",
        "one",
        "In logarithms the level to which the error has risen is divided out, and what remains does not grow with the "
        "order of removal. In real space it does: the rank correlation of the order with E(2) - E(1) is "
        "{steeper_absolute[0]} with one layer and {steeper_absolute[1]} with two.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.3", PAPER + "4.3.4", "One layer, brute force: surfaces are flat until the 90th removed unit.", "90th",
        Share("earlier_range", high=1 / 3), {"earlier_range": 0.1}, {"earlier_range": 0.9},
        "Largest range of the error over gains of 0 to 1 before the 90th unit, as a part of the 90th's.",
        "one",
        "The ranges rise step by step rather than at the 90th unit: until the 70th none is above "
        "{earlier_range_until_70:%} of the 90th's, and until the 80th none above {earlier_range:%}.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.4", PAPER + "4.3.6 and 4.4.4",
        "The quadratic criterion's surfaces are more spread than brute force's; brute force's, with two layers, are "
        "convex.", "shape",
        Every(Difference("quadratic_spread_more", above=0), Share("convex_share", low=0.8)),
        {"quadratic_spread_more": 0.5, "convex_share": 1.0}, {"quadratic_spread_more": -0.5, "convex_share": 0.2},
        "Spread: standard deviation of log E(0) over every tenth unit, one layer. Convex: no second difference over "
        "gains of 0 to 2 by 0.05 below a millionth of the error; rounding makes finer ones meaningless.",
        "two",
        "Convexity holds ({convex_share:%} of the curves). The spread of log E(0) is that of the level to which the "
        "error rises on the way, which is the same for both criteria ({spread_brute} and {spread_quadratic}). What "
        "the removal of a single unit does, the mean of log E(0)/E(1), is {change_brute} for brute force and "
        "{change_quadratic} for the quadratic criterion.",
        variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.5", PAPER + "4.4.5", "The linear criterion estimates well the units that it picks, yet picks badly.",
        "shape",
        Every(Share("linear_error", high=0.2), Difference("linear_curve_higher", above=0)),
        {"linear_error": 0.05, "linear_curve_higher": 0.5}, {"linear_error": 0.9, "linear_curve_higher": -0.1},
        "Median over every tenth unit, two layers, of the estimate's error relative to the measured change; mean log "
        "error along its curve less brute force's.",
        "estimates",
        "It picks badly, and its estimates of what it picks are wrong by {linear_error:%} of the change: the smallest "
        "of many first-order estimates belongs to a unit whose curvature is large and left out. {linear_wrong_sign:%} "
        "of them have the wrong sign. With the curvature by the recursion, exact for the last hidden layer alone, the "
        "error is {quadratic_error:%} for the units that it picks. Next to the level of the error a wrong linear "
        "estimate is small ({linear_error_of_level:%}), so that a plot in real space looks flat.",
        variants=tuple(VARIANTS),
    ),
)  # fmt: skip
"""In the order of the paper."""
