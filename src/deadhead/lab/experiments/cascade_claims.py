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

TAKEAWAY = ""

CLAIMS = (
    Claim(
        "D11.1", "Wolfe et al. (2016), section 5",
        "The pruned size is minimal: cascade correlation grows as large.", "open",
        Every(*(Difference(f"{name}_log_ratio", below=math.log(2)) for name in NAMES)),
        {f"{name}_log_ratio": 0.2 for name in NAMES}, {f"{name}_log_ratio": 1.5 for name in NAMES},
        "Size is the number of hidden units, one at least, at which the training error is no more than that at the end "
        "of brute force's flat part. The absolute logarithm of the ratio of sizes lies below log 2 on every task.",
    ),
)  # fmt: skip
