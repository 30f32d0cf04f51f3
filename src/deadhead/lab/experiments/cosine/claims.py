"""What Wolfe et al. (2016) claim about the cosine, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, InBand, Share

WHERE = "Wolfe et al. (2016), section 4.1"

FLAT = "Flat: before the error passes start + 5 % of (error with no unit - start)."

TAKEAWAY = (
    "Refit what remains: chosen and refitted by the optimal brain surgeon, a network of 100 units stays as exact "
    "without {flat_large.surgeon:%} of them, where brute force that sets units to zero stops at {flat_large_brute:%}. "
    "Quadratic estimates come up to brute force with exact second derivatives ({flat_large.exact quadratic:%}) and "
    "not with those of the layer-by-layer recursion ({flat_large_quadratic:%})."
)

VARIANTS = ("x from 0 to 1", "normal start")

FLAT_WHY = (
    "How far brute force is flat depends on the task and the width: {flat_small_brute:%} of 20 and "
    "{flat_large_brute:%} of 100 units on a whole period of the cosine, which is what we chose, since the paper names "
    "no interval. On x from 0 to 1, where the cosine hardly bends, it is {x from 0 to 1.flat_small_brute:%} and {x "
    "from 0 to 1.flat_large_brute:%}. Larger weights at the start (standard normal) do not do it: {normal "
    "start.flat_small_brute:%} and {normal start.flat_large_brute:%}."
)

LEFT_WHY = (
    "Eleven units are enough: one layer of them reaches the same error ({few_error_ratio} of the wanted one). But a "
    "network that has more uses more: brute force leaves {units_left[0]} of 20 and {units_left[1]} of 100 units, on x "
    "from 0 to 1 {x from 0 to 1.units_left[0]} and {x from 0 to 1.units_left[1]}. The function does not need them: "
    "refitted by the optimal brain surgeon, the error stays flat without {flat_small.surgeon:%} of the 20 and "
    "{flat_large.surgeon:%} of the 100. So the same few units would do in both networks, and what brute force "
    "measures is how widely training has spread the function, since it lets no other unit take over."
)

TAYLOR_WHY = (
    "Both estimates do fail earlier than brute force, in both networks, and earlier than in the paper: on 2x50 the "
    "linear one is flat to {flat_large_linear:%}, the quadratic one to {flat_large_quadratic:%}. In two layers the "
    "recursion is not the second derivative: with exact ones the quadratic estimate is flat to {flat_large.exact "
    "quadratic:%}, beside brute force's {flat_large_brute:%}. The interval decides, too: on x from 0 to 1 it is {x "
    "from 0 to 1.flat_large_linear:%} and {x from 0 to 1.flat_large_quadratic:%}."
)

RETURN_WHY = (
    "Errors that have risen fall back by parts, but to the start they return in {curves_that_return} of four curves "
    "for each seed. Groups of units that cancel each other come with large weights: from a start in the standard "
    "normal distribution it is {normal start.curves_that_return}, on x from 0 to 1 {x from 0 to "
    "1.curves_that_return}."
)

CLAIMS = (
    Claim(
        "D4.1", WHERE, "Brute force is flat up to half of 2x10 units and up to 90 % of 2x50.", "50 %, 90 %",
        Every(Share("flat_small_brute", low=0.45), Share("flat_large_brute", low=0.85)),
        {"flat_small_brute": 0.5, "flat_large_brute": 0.9}, {"flat_small_brute": 0.1, "flat_large_brute": 0.3},
        FLAT, "curves", FLAT_WHY, VARIANTS,
    ),
    Claim(
        "D4.2", WHERE, "The network always uses 10 to 11 units, whatever its size; 11 are enough.",
        "10-11",
        Every(
            Share("units_left", 8, 14), Share("units_left_difference", high=4), Share("few_error_ratio", high=1.0)
        ),
        {"units_left": [10, 11], "units_left_difference": 1, "few_error_ratio": 0.99},
        {"units_left": [17, 40], "units_left_difference": 23, "few_error_ratio": 20.0},
        "Units left where brute force stops to be flat, of both networks; and whether one layer of 11, trained the "
        "same way, reaches the same error (its error by the wanted one).", "curves", LEFT_WHY,
        VARIANTS,
    ),
    Claim(
        "D4.3", WHERE, "The linear and the quadratic estimates fail earlier.",
        "2x50: linear to about the 40th unit, quadratic past the 50th",
        Every(
            *(Difference(f"flat_{size}_{way}_less_brute", below=0)
              for size in ("small", "large") for way in ("linear", "quadratic")),
            InBand("flat_large_linear", 0.3, 0.5), InBand("flat_large_quadratic", 0.45, 0.7),
        ),
        {
            "flat_small_linear_less_brute": -0.2, "flat_small_quadratic_less_brute": -0.2,
            "flat_large_linear_less_brute": -0.5, "flat_large_quadratic_less_brute": -0.4,
            "flat_large_linear": 0.4, "flat_large_quadratic": 0.55,
        },
        {
            "flat_small_linear_less_brute": 0.1, "flat_small_quadratic_less_brute": 0.1,
            "flat_large_linear_less_brute": 0.1, "flat_large_quadratic_less_brute": 0.1,
            "flat_large_linear": 0.95, "flat_large_quadratic": 0.95,
        },
        FLAT, "curves", TAYLOR_WHY, VARIANTS,
    ),
    Claim(
        "D4.4", WHERE, "The error rises and returns when a whole group of cancelling units is out.",
        "back to zero after the 6th removed unit",
        Share("curves_that_return", low=1),
        {"curves_that_return": 2}, {"curves_that_return": 0},
        "How many of the four curves of linear and quadratic estimates pass start + 10 % of the range (to the error "
        "with no unit) and are "
        "later below start + 2 %.", "curves", RETURN_WHY,
        VARIANTS,
    ),
)  # fmt: skip
"""In the order of the paper."""
