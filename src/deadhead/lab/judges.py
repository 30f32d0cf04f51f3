"""Judges of a claim: from results over seeds to a verdict, in four kinds that can each come out either way.

`Share` asks for a condition in each seed, `Difference` for a paired difference on one side, `InBand` for a mean in a
range, `Exact` for a worst case within a tolerance; `Every` combines them. A verdict is never typed in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scipy.special import stdtrit  # type: ignore[import-untyped]

HOLDS, PART, FAILS, OPEN = "holds", "holds in part", "does not hold", "too few seeds"
SEEDS = 5
"""Fewer seeds than this decide nothing, but for what is exact."""

Results = Sequence[Mapping[str, Any]]
"""Plain results, one mapping for each seed."""


@dataclass(frozen=True)
class Number:
    """What a judge looked at: its mean over seeds, and its range or, of a difference, its 95 % interval."""

    what: str
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        name = self.what.replace("_", " ")
        if math.isnan(self.mean):
            return f"{name}: no case"
        return f"{name} {self.span}"

    @property
    def span(self) -> str:
        """The mean and its range without the name."""
        if self.low == self.high:
            return digits(self.mean)
        return f"{digits(self.mean)} ({digits(self.low)} to {digits(self.high)})"


@dataclass(frozen=True)
class Judgement:
    """A verdict with the numbers behind it."""

    verdict: str
    numbers: tuple[Number, ...]


class Judge(Protocol):
    """A function of results over seeds."""

    def __call__(self, results: Results) -> Judgement:
        """The verdict on them."""


@dataclass(frozen=True)
class Share:
    """A condition tested in each seed: holds at 80 % of the seeds, in part at 40 %.

    Args:
        value: name of the result; a list of numbers meets the condition where all of them do, None is no case.
        low: the smallest number that meets the condition (default: none is too small).
        high: the largest (default: none is too large).

    >>> Share("accuracy", low=0.95)([{"accuracy": 0.98}] * 5).verdict
    'holds'
    >>> Share("accuracy", low=0.95)([{"accuracy": 0.98}, {"accuracy": 0.5}] * 5).verdict
    'holds in part'
    """

    value: str
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, results: Results) -> Judgement:
        cases = [_numbers(each[self.value]) for each in results if each[self.value] is not None]
        worst = [min(case, key=lambda x: min(x - self.low, self.high - x)) for case in cases]
        if len(cases) < SEEDS:
            return Judgement(OPEN, (over_seeds(self.value, worst),))
        met = sum(all(self.low <= x <= self.high for x in case) for case in cases) / len(cases)
        return Judgement(HOLDS if met >= 0.8 else PART if met >= 0.4 else FAILS, (over_seeds(self.value, worst),))


@dataclass(frozen=True)
class Difference:
    """A difference paired within the seed: holds where its interval lies on one side, in part where its mean does.

    The interval is Student's, of the mean over seeds.

    Args:
        value: name of the difference among the results.
        above: what it must lie above (default: nothing).
        below: what it must lie below (default: nothing).
        confidence: of the interval (default: 95 %; more where the best of several is compared).

    >>> Difference("gain", above=0)([{"gain": x} for x in (1.0, 1.1, 0.9, 1.2, 1.0)]).verdict
    'holds'
    >>> Difference("gain", above=0)([{"gain": x} for x in (3.0, -2.0, 1.0, 0.5, -1.0)]).verdict
    'holds in part'
    """

    value: str
    above: float = -math.inf
    below: float = math.inf
    confidence: float = 0.95

    def __call__(self, results: Results) -> Judgement:
        values = [float(each[self.value]) for each in results if each[self.value] is not None]
        if len(values) < SEEDS:
            return Judgement(OPEN, (over_seeds(self.value, values),))
        mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
        half = float(stdtrit(len(values) - 1, (1 + self.confidence) / 2)) * error
        number = Number(self.value, mean, mean - half, mean + half)
        whole = self.above < number.low and number.high < self.below
        return Judgement(HOLDS if whole else PART if self.above < mean < self.below else FAILS, (number,))


@dataclass(frozen=True)
class InBand:
    """A mean over seeds inside a band: in part where it is only on the right side.

    Args:
        value: name of the number among the results.
        low: lower end of the band.
        high: upper end of the band.
        at: which of a list of numbers (default: the number is alone).
        side: ends of the wider band in which order or sign is right (default: there is none).

    >>> InBand("loss", 0.06, 0.2)([{"loss": 0.1}] * 5).verdict, InBand("loss", 0.06, 0.2)([{"loss": 0.3}] * 5).verdict
    ('holds', 'does not hold')
    """

    value: str
    low: float
    high: float
    at: int | None = None
    side: tuple[float, float] | None = None

    def __call__(self, results: Results) -> Judgement:
        found = [each[self.value] if self.at is None else each[self.value][self.at] for each in results]
        number = over_seeds(self.value, [float(x) for x in found if x is not None])
        if sum(x is not None for x in found) < SEEDS:
            return Judgement(OPEN, (number,))
        right = self.side is not None and self.side[0] <= number.mean <= self.side[1]
        inside = self.low <= number.mean <= self.high
        return Judgement(HOLDS if inside else PART if right else FAILS, (number,))


@dataclass(frozen=True)
class Exact:
    """The worst case over all trials within a tolerance, where a control breaks it; one seed is enough.

    Args:
        value: name of the error among the results.
        tolerance: the largest error allowed.
        control: name of the error of something that must not be exact.

    >>> Exact("error", 1e-12, "broken")([{"error": 0.0, "broken": 0.3}]).verdict
    'holds'
    >>> Exact("error", 1e-12, "broken")([{"error": 0.0, "broken": 0.0}]).verdict  # it cannot tell
    'does not hold'
    """

    value: str
    tolerance: float
    control: str

    def __call__(self, results: Results) -> Judgement:
        errors = [x for each in results for x in _numbers(each[self.value])]
        controls = [x for each in results for x in _numbers(each[self.control])]
        exact = bool(errors) and max(errors) <= self.tolerance < min(controls, default=-math.inf)
        return Judgement(
            HOLDS if exact else FAILS, (over_seeds(self.value, errors), over_seeds(self.control, controls))
        )


class Every:
    """Several conditions: holds where all do, in part where some do or one does in part.

    >>> both = Every(Share("a", low=0), Share("b", low=0))
    >>> both([{"a": 1, "b": -1}] * 5).verdict
    'holds in part'
    """

    def __init__(self, *judges: Callable[[Results], Judgement]) -> None:
        self.judges = judges

    def __call__(self, results: Results) -> Judgement:
        found = [judge(results) for judge in self.judges]
        verdicts = {each.verdict for each in found}
        alike = verdicts.pop() if len(verdicts) == 1 else PART
        verdict = OPEN if OPEN in {each.verdict for each in found} else alike
        return Judgement(verdict, tuple(number for each in found for number in each.numbers))


def _numbers(value: Any) -> list[float]:
    return [float(x) for x in (value if isinstance(value, (list, tuple)) else [value])]


def digits(value: float) -> str:
    """A number with three digits, or whole with commas from a thousand to ten million.

    >>> digits(0.12345), digits(11702.4), digits(6.16e9)
    ('0.123', '11,702', '6.16e+09')
    """
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3g}"


def over_seeds(what: str, values: Sequence[float]) -> Number:
    """The mean of values with their range.

    Args:
        what: their name.
        values: of all seeds.
    """
    if not values:
        return Number(what, math.nan, math.nan, math.nan)
    return Number(what, statistics.fmean(values), min(values), max(values))
