"""Why claims of the experiment `attack` do not hold, or only in part, in sentences whose numbers are results."""

TAKEAWAY = ""

WHY: dict[str, str] = {}
VARIANTS: dict[str, tuple[str, ...]] = {}
