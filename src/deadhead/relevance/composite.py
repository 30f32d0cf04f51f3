"""Composite: which relevance rule stands at which op of a network, as data."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from deadhead.errors import RelevanceError
from deadhead.relevance.kinds import DESCRIBED
from deadhead.relevance.operations import Operation
from deadhead.relevance.program import Program
from deadhead.relevance.rules import Detach, RelevanceRule
from deadhead.relevance.signals import Form

Rules = Mapping[str, RelevanceRule]


@dataclass(frozen=True, repr=False)
class Composite:
    """Which relevance rule stands at which op: by kind of op, for the first and last layers, and by module name.

    Printed, it is a table of its rules.

    Args:
        rules: a rule for each kind of op: linear, convolution, sum, movement, product, maximum, nonlinearity, softmax,
            normalisation, general, embedding.
        first: rules by kind for layers with weights that have none before them (default: as `rules`).
        last: rules by kind for layers with weights that have none behind them (default: as `rules`).
        named: for patterns of module names, as in fnmatch, rules by kind that go before all others.
        start: what stands at the output: "Q" = 1 to propagate relevance (default), "R" = 1 to propagate gradients.
        baseline: whether activations are compared with those under a baseline input (default False).
        constants: "each" bias is an input of its own (default), or "all" are fed by a single one, named `one`.

    Raises:
        RelevanceError: for a kind of op that does not exist or has no rule, and a rule that does not fit its kind, or
            cannot compare with a baseline where one is wanted.

    Source: composites as in Montavon et al. (2019), section 10.3; `constants` as in "Visualizing Neural networks, how
    to blame the bias", AI Alignment Forum, "Solution 1: Blame the Bias".

    >>> from deadhead.relevance import named_composite
    >>> from deadhead.relevance.rules import Epsilon
    >>> named_composite("lrp").but(last={"linear": Epsilon(0.1)})
    Composite
      linear         Epsilon(epsilon=0.0, bias=False)
      convolution    Epsilon(epsilon=0.0, bias=False)
      sum            Epsilon(epsilon=0.0, bias=False)
      movement       Gradient(remainder=True)
      product        Uniform()
      maximum        Gradient(remainder=True)
      nonlinearity   Rescale()
      softmax        Detach()
      normalisation  Detach()
      general        Gradient(remainder=True)
      embedding      Gradient(remainder=True)
      last layers
        linear       Epsilon(epsilon=0.1, bias=True)
    """

    rules: Rules
    first: Rules = field(default_factory=dict)
    last: Rules = field(default_factory=dict)
    named: Mapping[str, Rules] = field(default_factory=dict)
    start: Form = "Q"
    baseline: bool = False
    constants: Literal["each", "all"] = "each"

    def __post_init__(self) -> None:
        if self.constants not in ("each", "all"):
            raise RelevanceError(f"constants={self.constants!r} is not a choice; it is 'each' or 'all'.")
        for rules in (self.rules, self.first, self.last, *self.named.values()):
            for kind, rule in rules.items():
                self._check(kind, rule)
        missing = set(DESCRIBED) - set(self.rules)
        if missing:
            raise RelevanceError(
                f"The composite has no rule for {', '.join(sorted(missing))}; give one for each kind of op, or start "
                "from a method, as in named_composite('lrp').but({...})."
            )

    def _check(self, kind: str, rule: RelevanceRule) -> None:
        name = type(rule).__name__
        if kind not in DESCRIBED:
            raise RelevanceError(f"There is no kind of op {kind!r}; the kinds are {', '.join(DESCRIBED)}.")
        if kind not in rule.kinds:
            fitting = ", ".join(sorted(rule.kinds & set(DESCRIBED)))
            raise RelevanceError(f"The rule {name} has no meaning for the kind {kind!r}; it is for {fitting}.")
        if self.baseline and not rule.supports_baseline:
            raise RelevanceError(f"The rule {name} cannot compare with a baseline; choose another for {kind!r}.")

    def __repr__(self) -> str:
        lines = ["Composite" + ", compared with a baseline" * self.baseline + ", of gradients" * (self.start == "R")]
        lines += [f"  {kind:<14} {self.rules[kind]}" for kind in DESCRIBED]
        named = ((f"modules named {pattern}", rules) for pattern, rules in self.named.items())
        for title, rules in (("first layers", self.first), ("last layers", self.last), *named):
            if rules:
                lines += [f"  {title}", *(f"    {kind:<12} {rule}" for kind, rule in rules.items())]
        if self.constants == "all":
            lines.append("  all biases are fed by a single one")
        return "\n".join(lines)

    def but(self, rules: Rules | None = None, **changes: Any) -> Composite:
        """The same composite with other rules for some kinds of op, and other fields.

        Args:
            rules: rules by kind that take the place of its own (default: none).
            changes: other fields of the composite, such as `first` or `named`.

        Returns:
            A new composite.

        Raises:
            RelevanceError: as `Composite`.

        >>> from deadhead.relevance import named_composite
        >>> from deadhead.relevance.rules import Gamma
        >>> named_composite("lrp_epsilon").but({"linear": Gamma(0.1)}).rules["linear"]
        Gamma(gamma=0.1)
        """
        return replace(self, rules={**self.rules, **(rules or {})}, **changes)

    @property
    def detached(self) -> frozenset[str]:
        """The kinds of op whose outputs carry no relevance."""
        return frozenset(kind for kind, rule in self.rules.items() if isinstance(rule, Detach))

    def choose(self, program: Program) -> dict[Operation, RelevanceRule]:
        """The rule that stands at each operation; none at those that need no rule, and at embeddings."""
        first, last = program.first, program.last
        with_rule = [each for each in program.operations if each.kind in DESCRIBED and each.kind != "embedding"]
        return {each: self._rule(each, each in first, each in last) for each in with_rule}

    def _rule(self, operation: Operation, first: bool, last: bool) -> RelevanceRule:
        for pattern, rules in self.named.items():
            if operation.kind in rules and fnmatch.fnmatch(operation.path, pattern):
                return rules[operation.kind]
        if first and operation.kind in self.first:
            return self.first[operation.kind]
        if last and operation.kind in self.last:
            return self.last[operation.kind]
        return self.rules[operation.kind]
