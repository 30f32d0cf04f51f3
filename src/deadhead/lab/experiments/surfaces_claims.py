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
"""Training by the paper's own loss, which ends at a larger error than the paper's accuracy asks for."""

TAKEAWAY = ""

CLAIMS = (
    Claim(
        "D8.1", PAPER + "4.3.3", "The gain of some units may be doubled, tripled or quadrupled without effect.",
        "gain 0 to 10 by 0.001",
        Share("quadrupled", high=0.01), {"quadrupled": 0.001}, {"quadrupled": 0.3},
        "The smallest relative change of the error from gain 1 to gain 4, over every tenth unit that each of the three "
        "criteria removes from one layer.",
        "one", variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.2", PAPER + "4.3.3", "Units that are removed later have steeper surfaces past 1.0.", '"ideally"',
        Share("steeper", low=0.5), {"steeper": [0.8, 0.7]}, {"steeper": [0.0, -0.2]},
        "Rank correlation of the order of removal by brute force with log(E(2) / E(1)), one layer and two.",
        "one", variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.3", PAPER + "4.3.4", "One layer, brute force: surfaces are flat until the 90th removed unit.", "90th",
        Share("earlier_range", high=1 / 3), {"earlier_range": 0.1}, {"earlier_range": 0.9},
        "Largest range of the error over gains of 0 to 1 before the 90th unit, as a part of the 90th's.",
        "one", variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.4", PAPER + "4.3.6 and 4.4.4",
        "The quadratic criterion's surfaces are more spread than brute force's; brute force's, with two layers, are "
        "convex.", "shape",
        Every(Difference("quadratic_spread_more", above=0), Share("convex_share", low=0.8)),
        {"quadratic_spread_more": 0.5, "convex_share": 1.0}, {"quadratic_spread_more": -0.5, "convex_share": 0.2},
        "Spread: standard deviation of log E(0) over every tenth unit, one layer. Convex: no second difference over "
        "gains of 0 to 2 by 0.05 below a millionth of the error; rounding makes finer ones meaningless.",
        "two", variants=tuple(VARIANTS),
    ),
    Claim(
        "D8.5", PAPER + "4.4.5", "The linear criterion estimates well the units that it picks, yet picks badly.",
        "shape",
        Every(Share("linear_error", high=0.2), Difference("linear_curve_higher", above=0)),
        {"linear_error": 0.05, "linear_curve_higher": 0.5}, {"linear_error": 0.9, "linear_curve_higher": -0.1},
        "Median over every tenth unit, two layers, of the estimate's error relative to the measured change; mean log "
        "error along its curve less brute force's.",
        "estimates", variants=tuple(VARIANTS),
    ),
)  # fmt: skip
"""In the order of the paper."""
