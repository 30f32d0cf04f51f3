"""What Wolfe et al. (2016) claim about the cosine, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, InBand, Share

WHERE = "Wolfe et al. (2016), section 4.1"

FLAT = "Flat: before the error passes start + 5 % of (error with no unit - start)."

TAKEAWAY = ""

CLAIMS = (
    Claim(
        "D4.1", WHERE, "Brute force is flat up to half of 2x10 units and up to 90 % of 2x50.", "50 %, 90 %",
        Every(Share("flat_small_brute", low=0.45), Share("flat_large_brute", low=0.85)),
        {"flat_small_brute": 0.5, "flat_large_brute": 0.9}, {"flat_small_brute": 0.1, "flat_large_brute": 0.3},
        FLAT, "curves",
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
        "same way, reaches the same error (its error by the wanted one).", "curves",
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
        FLAT, "curves",
    ),
    Claim(
        "D4.4", WHERE, "The error rises and returns when a whole group of cancelling units is out.",
        "back to zero after the 6th removed unit",
        Share("curves_that_return", low=1),
        {"curves_that_return": 2}, {"curves_that_return": 0},
        "How many of the four curves of linear and quadratic estimates pass start + 10 % of the range (to the error "
        "with no unit) and are "
        "later below start + 2 %.", "curves",
    ),
)  # fmt: skip
"""In the order of the paper."""
