"""What Wolfe et al. (2016) leave open about cascade correlation, and how it is judged."""

from __future__ import annotations

import math
from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every

NAMES = {
    "cosine10": "cosine, 2x10",
    "cosine50": "cosine, 2x50",
    "digits100": "digits, 1x100",
    "digits50": "digits, 2x50",
    "diamond": "diamond, 2x50",
    "random": "random shape, 2x50",
}
"""The tasks, and the networks that are pruned."""

VARIANTS: dict[str, dict[str, Any]] = {}

TAKEAWAY = (
    "What is left by removing units without retraining is no measure of what a task needs: of a cosine network with "
    "two layers of 50, {cosine50_pruned:mean} units remain at an error that a network grown by cascade correlation "
    "meets with {cosine50_cascade:mean}, and the optimal brain surgeon, which refits the remaining weights, with "
    "{cosine50_surgeon:mean}. Refit after removing (`compensate`) before you read a size as minimal."
)

CLAIMS = (
    Claim(
        "D11.1", "Wolfe et al. (2016), section 5",
        "The pruned size is minimal: cascade correlation grows as large.", "open",
        Every(*(Difference(f"{name}_log_ratio", below=math.log(2)) for name in NAMES)),
        {f"{name}_log_ratio": 0.2 for name in NAMES}, {f"{name}_log_ratio": 1.5 for name in NAMES},
        "Size is the number of hidden units, one at least, at which the training error is no more than that at the end "
        "of brute force's flat part. The absolute logarithm of the ratio of sizes lies below log 2 on every task.",
        "sizes",
        "The fixed weights need the units that remain, and the function does not. The same removals with the "
        "remaining weights refitted by least squares leave {cosine50_refitted} units of the cosine's 2x50 in place of "
        "{cosine50_pruned}, and {diamond_refitted} in place of {diamond_pruned} of the diamond's; the optimal brain "
        "surgeon, which also chooses with refitting in view, leaves {cosine50_surgeon} and {diamond_surgeon}, as few "
        "as cascade correlation grows ({cosine50_cascade} and {diamond_cascade}) and about as few as meet the error "
        "when trained from scratch ({cosine50_scratch} and {diamond_scratch}). The shortcuts from inputs to outputs "
        "are a smaller part of it: grown without them, networks have {cosine50_layered} and {diamond_layered} units. "
        "On digits, outputs that read the pixels meet the error almost alone ({digits100_cascade} units); without "
        "shortcuts it takes {digits100_layered}, where pruning leaves {digits100_pruned}. At a tenth of the rise of "
        "the error the gap is as wide: {cosine50_pruned_small_error} units pruned, {cosine50_cascade_small_error} "
        "grown.",
    ),
)  # fmt: skip
