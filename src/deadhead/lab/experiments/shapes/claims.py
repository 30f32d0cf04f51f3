"""What Wolfe et al. (2016) claim about toy shapes, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Every, Share

TAKEAWAY = (
    "Refit what remains: chosen and refitted by the optimal brain surgeon, the networks keep their accuracy to a point "
    "without {free.diamond.surgeon:mean%} of the units (diamond) and {free.random.surgeon:mean%} (random shape), where "
    "brute force that sets units to zero stops at {free.diamond.brute force:%} and {free.random.brute force:%}. "
    "Quadratic estimates choose nearly as well as brute force if their second derivatives are exact, and as badly as "
    "linear ones if these come from the layer-by-layer recursion."
)

WHY = (
    "The linear estimate is as poor as the paper says, and so is the quadratic one with the paper's recursion: its gap "
    "is {quadratic_gap} of the linear one's. What separates them is the recursion: below the last hidden layer it "
    "leaves out the second derivatives by two different units, and is no longer the second derivative. With exact ones "
    "and nothing else changed, the gap is {exact_quadratic_gap}, and the error is flat up to "
    "{flat.diamond.exact quadratic:%} of the units (diamond) and {flat.random.exact quadratic:%} (random shape); brute "
    "force reaches {flat.diamond.brute force:%} and {flat.random.brute force:%}. So the claim is one about second "
    "derivatives, and holds for them, but not for appendix A's."
)

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
        "curves", WHY,
    ),
)  # fmt: skip
"""In the order of the paper."""
