"""`Options`: every argument of a prune, checked once."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from deadhead.compensate import COMPENSATIONS
from deadhead.compensate.method import Method
from deadhead.errors import BudgetError, DataError
from deadhead.scores.criterion import CRITERIA, Criterion, options_of
from deadhead.select.budget import BUDGETS, Budget, budget_of
from deadhead.select.plan import Plan
from deadhead.select.ranking import NORMALISATIONS
from deadhead.select.rounds import Rounds

SCOPES = ("group", "all")
BUILT_IN_BUDGETS = ("units", "params", "macs", "memory", "latency", "max_loss_increase", "max_accuracy_drop")
"""The budgets that are fields of `Options`; those that other packages register are in `budgets`."""


OTHER_ARGUMENTS = ("loss", "test", "optimizer", "progress")
"""The arguments of `prune` that are no options."""


@dataclass(frozen=True)
class Options:
    """Every argument of a prune that is a plain value; `deadhead.prune` says what each means.

    Raises:
        BudgetError: without exactly one budget, or where it is out of range.
        DataError: where a name or an option does not exist, or a number is out of range.

    >>> Options(units=0.5).budget, Options(units=0.5).criterion
    (Budget(kind='units', value=0.5), 'obs')
    >>> Options(units=0.5, criterion="magnitud")
    Traceback (most recent call last):
    deadhead.errors.DataError: There is no criterion 'magnitud'; did you mean 'magnitude'? ...
    """

    units: float | int | Mapping[str, float | int] | None = None
    params: float | int | None = None
    macs: float | int | None = None
    memory: float | int | None = None
    latency: float | None = None
    max_loss_increase: float | None = None
    max_accuracy_drop: float | None = None
    budgets: Mapping[str, float | int] = field(default_factory=dict)
    plan: Plan | None = None
    criterion: str = "obs"
    criterion_options: Mapping[str, Any] = field(default_factory=dict)
    compensate: str = "gauss_newton"
    compensate_options: Mapping[str, Any] = field(default_factory=dict)
    scope: str = "group"
    normalize: str | None = None
    rounds: int = 1
    step: int | None = None
    exclude: Sequence[str] = ()
    only: Sequence[str] = ()
    round_to: int = 1
    min_units: int = 1
    width: bool | None = None
    inplace: bool = False
    samples: int = 4096
    curve: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("only", "exclude"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        for name in ("criterion_options", "compensate_options", "budgets"):
            object.__setattr__(self, name, dict(getattr(self, name) or {}))
        if isinstance(self.units, Mapping) and not self.units:
            raise BudgetError("units={} names no group; give a fraction, a count, or {pattern: fraction or count}.")
        _ = self.budget
        options_of(self.criterion, self.criterion_options)
        COMPENSATIONS.check_options(self.compensate, self.compensate_options)
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.scope not in SCOPES:
            raise DataError(f"There is no scope {self.scope!r}; the scopes are {' and '.join(SCOPES)}.")
        if self.scope == "all" and isinstance(self.units, Mapping):
            raise BudgetError(
                'scope="all" ranks all groups together, and units gives single groups budgets of their own; choose one.'
            )
        if self.normalize is not None and self.normalize not in NORMALISATIONS:
            raise DataError(f"There is no normalize={self.normalize!r}; there are {', '.join(NORMALISATIONS)}.")
        if self.step is not None and (self.step < 1 or self.rounds != 1):
            raise DataError(
                f"step={self.step} with rounds={self.rounds}: step must be at least 1, and rounds and step are two "
                "ways to say how often units are re-ranked; give one."
            )
        for name in ("rounds", "round_to", "min_units"):
            if getattr(self, name) < 1:
                raise DataError(f"{name}={getattr(self, name)} is out of range: it must be at least 1.")
        if self.curve < 0:
            raise DataError(
                f"curve={self.curve} is out of range: it counts the networks measured beside the result, from 0 on."
            )

    @functools.cached_property
    def budget(self) -> Budget:
        """The one budget that was given."""
        given: dict[str, Any] = {name: getattr(self, name) for name in BUILT_IN_BUDGETS} | dict(self.budgets)
        if isinstance(self.units, Mapping):
            given["units"] = min(self.units.values())
        for name in self.budgets:
            if name not in BUDGETS:
                near = difflib.get_close_matches(name, [*OTHER_ARGUMENTS, *BUDGETS, *option_names()], 1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise BudgetError(
                    f"There is no budget {name!r}, and no argument of that name{hint} "
                    f"The budgets are {', '.join(sorted(BUDGETS))}."
                )
        return budget_of(**given, plan=None if self.plan is None else max(self.plan.count, 1))

    @property
    def shares(self) -> Mapping[str, float | int] | None:
        """{pattern of module names: what remains of each such group}, where every group spends its own budget."""
        if self.budget.kind != "units" or self.scope == "all":
            return None
        return self.units if isinstance(self.units, Mapping) else {"*": self.budget.value}

    @property
    def judge(self) -> Criterion:
        """The criterion."""
        return CRITERIA[self.criterion]

    @property
    def method(self) -> Method:
        """The compensation."""
        return COMPENSATIONS[self.compensate]

    @property
    def reranking(self) -> Rounds:
        """How often the remaining units are re-ranked."""
        return Rounds(self.rounds, self.step, self.budget.is_of_quality)

    @property
    def in_one_round(self) -> bool:
        """Whether units are ranked once."""
        return self.rounds == 1 and self.step is None

    @property
    def compensate_between(self) -> str:
        """The compensation of networks that are re-ranked: without the last refinement, where there are many."""
        many = not self.budget.is_of_quality and not self.in_one_round
        return self.method.after or self.compensate if many else self.compensate

    @property
    def chooses_front_to_back(self) -> bool:
        """Whether the units of each group are chosen in the network as it is pruned and compensated before it."""
        start = COMPENSATIONS[self.method.after] if self.method.after else self.method
        return self.judge.front_to_back and start.front_to_back and self.in_one_round and self.plan is None

    @property
    def budget_as_given(self) -> str:
        """The budget as the caller wrote it."""
        return f"units={dict(self.units)}" if isinstance(self.units, Mapping) else str(self.budget)

    def settings(self) -> dict[str, Any]:
        """What a report says about how units were selected."""
        names = ("scope", "rounds", "step", "round_to", "min_units", "samples", "curve", "seed")
        return {name: getattr(self, name) for name in names}


def option_names() -> tuple[str, ...]:
    """The names of all options."""
    return tuple(each.name for each in fields(Options))
