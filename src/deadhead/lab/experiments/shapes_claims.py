"""What Wolfe et al. (2016) claim about toy shapes, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Every, Share

TAKEAWAY = ""

CLAIMS = (
    Claim(
        "D7.1", "Wolfe et al. (2016), section 4.6",
        "On shapes in the plane the quadratic estimate is very close to brute force, and the linear one is poor.",
        '"very close"',
        Every(Share("quadratic_gap", high=0.25), Share("linear_flat_by_brute", high=0.5)),
        {"quadratic_gap": [0.1, 0.1], "linear_flat_by_brute": [0.2, 0.2]},
        {"quadratic_gap": [0.9, 0.9], "linear_flat_by_brute": [1.0, 1.0]},
        "For both shapes: the mean log error over the curve of quadratic estimates less that of brute force, by "
        "the same of linear estimates; and the share of units removed while the error is flat (start + 5 % of the "
        "range to the error with no unit), of linear estimates by that of brute force.",
        "curves",
    ),
)  # fmt: skip
"""In the order of the paper."""
