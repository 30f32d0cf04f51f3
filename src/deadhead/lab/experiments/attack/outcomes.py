"""An attacked copy beside its intact network, and the arithmetic that numbers of `attack` share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from deadhead.lab.experiments.attack.looks import Look
from deadhead.lab.experiments.attack.runs import Run
from deadhead.lab.lazily import stats

NOTHING = 0.01
"""Of the intact layer's median: a smaller penalty is about 0, and so is a smaller largest gradient."""
LOWEST = 1e-3
"""Ratios below it count as it in logarithms."""

Looks = Mapping[Run, Sequence[Look]]


@dataclass(frozen=True)
class Outcome:
    """An attacked copy beside its intact network.

    Args:
        run: the attack.
        looks: at the copy.
        intact: at the intact network, at the same steps.
    """

    run: Run
    looks: Sequence[Look]
    intact: Sequence[Look]

    def ratio(self, name: str, at: int = -1) -> float:
        """A quantity of the attacked unit over the intact unit's, at one of the looks."""
        unit, layer = self.run.unit, self.run.layer
        attacked, intact = (float(getattr(each[at], name)[layer][unit]) for each in (self.looks, self.intact))
        return attacked / intact if intact > 0 else math.nan

    def values(self, place: str) -> tuple[Tensor, Tensor]:
        """The unit's values at the end, attacked and intact."""
        layer, unit = self.run.layer, self.run.unit
        return self.looks[-1].values[layer][unit][place], self.intact[-1].values[layer][unit][place]

    @property
    def q(self) -> float:
        """Attacked over intact penalty at the end."""
        return self.ratio("mrp")

    @property
    def log_q(self) -> float:
        """Its natural logarithm, not below that of `LOWEST`."""
        return math.log(max(self.q, LOWEST))

    @property
    def half(self) -> int:
        """The place of the look that is nearest to the middle between start and end."""
        middle = (self.run.start + self.run.end) / 2
        return min(range(len(self.looks) - 1), key=lambda i: abs(self.looks[i].step - middle), default=-1)


def outcomes(looks: Looks) -> list[Outcome]:
    """Every attacked copy whose loss stayed finite, beside its intact network."""
    intact = {run.network: {look.step: look for look in each} for run, each in looks.items() if run.set == "intact"}
    return [
        Outcome(run, each, [intact[run.network][look.step] for look in each])
        for run, each in looks.items()
        if run.set != "intact" and each and all(math.isfinite(look.loss) and look.mrp for look in each)
    ]


def nothing(look: Look, intact: Look, name: str, layer: str) -> Tensor:
    """Which units of a layer have about 0 of a quantity, by the intact layer's median; those not measured have not."""
    return getattr(look, name)[layer] < NOTHING * getattr(intact, name)[layer].median()  # type: ignore[no-any-return]


def rho(first: Tensor, second: Tensor) -> float:
    return float(stats.spearmanr(first.numpy(), second.numpy()).statistic)


def mean(values: Iterable[float | None]) -> float | None:
    there = [float(each) for each in values if each is not None and math.isfinite(each)]
    return sum(there) / len(there) if there else None


def over(first: float | None, second: float | None) -> float | None:
    return first / second if first is not None and second else None


def less(first: float | None, second: float | None) -> float | None:
    return first - second if first is not None and second is not None else None


def digits(value: float) -> float:
    return float(f"{value:.4g}")
