"""`Scores`: what `score` returns, a dict that prints as a table."""

from __future__ import annotations

import shutil

from torch import Tensor

from deadhead.text import listed, table

LOWEST = 5
"""So many units of the lowest score are named for each group."""


class Scores(dict[str, Tensor]):
    """{group: a score for each unit}; printed, a row for each group.

    >>> import torch
    >>> print(Scores({"conv1": torch.tensor([0.5, 2.0, 1.0]), "fc": torch.tensor([3.0])}))
    group  units  minimum  median  maximum  lowest units
    conv1      3      0.5       1        2  0, 2, 1
    fc         1        3       3        3  0
    """

    def __str__(self) -> str:
        rows = [[name, *self.summary(name)] for name in self]
        headings = ["group", "units", "minimum", "median", "maximum", "lowest units"]
        width = shutil.get_terminal_size((100, 24)).columns
        return table(headings, rows, width, right=[1, 2, 3, 4])

    __repr__ = __str__

    def summary(self, name: str) -> list[str]:
        """Of one group: units; minimum, median and maximum of the finite scores; the units that score lowest."""
        values = self[name].flatten()
        finite = values[values.isfinite()]
        numbers = [finite.min(), finite.median(), finite.max()] if len(finite) else []
        order = [str(unit) for unit in values.argsort(stable=True).tolist() if values[unit].isfinite()]
        shown = [f"{number.item():.4g}" for number in numbers] or ["-"] * 3
        return [f"{len(values):,}", *shown, listed(order, LOWEST) or "-"]
