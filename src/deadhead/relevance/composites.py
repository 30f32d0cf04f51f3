"""Which rule stands where: composites as data, and the named ones."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from deadhead.errors import RelevanceError
from deadhead.relevance.edges import Form
from deadhead.relevance.kinds import DESCRIBED
from deadhead.relevance.plan import Plan
from deadhead.relevance.rules import (
    Detached,
    Flat,
    Fold,
    Gradient,
    Guided,
    Half,
    Normalised,
    Repeat,
    Rule,
    Slope,
    SoftMaximum,
    ZPlus,
)
from deadhead.relevance.steps import Step

Rules = Mapping[str, Rule]


@dataclass(frozen=True)
class Composite:
    """Rules by kind of op, for the first and last ops that have weights, and by module.

    `rules` gives a rule to each kind of op (`linear`, `convolution`, `sum`, `movement`, `product`, `maximum`,
    `nonlinearity`, `softmax`, `normalisation`, `general`, `embedding`); `first` and `last` take their place at ops with
    weights that have none before or behind them; `named` gives, for patterns of module names (as in fnmatch), rules
    that go before all others. `start` says what stands at the output: "Q" = 1, or "R" = 1 for composites that propagate
    gradients. With `baseline`, values are compared with those for a baseline input. `constants` says whether "each"
    bias is an input of its own, or "all" are fed by one, named `one`, which then has their relevance together.

    >>> composite("lrp").but(last={"linear": Normalised(epsilon=0.1)}).last
    {'linear': Normalised(epsilon=0.1, bias=True)}
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
            raise RelevanceError(f"constants={self.constants!r} is no choice; it is 'each' or 'all'.")
        for rules in (self.rules, self.first, self.last, *self.named.values()):
            for kind, rule in rules.items():
                if kind not in DESCRIBED:
                    raise RelevanceError(f"There is no kind of op {kind!r}; the kinds are {', '.join(DESCRIBED)}.")
                if kind not in rule.kinds:
                    raise RelevanceError(
                        f"{type(rule).__name__} has no meaning for the kind {kind!r}; it is for "
                        f"{', '.join(sorted(rule.kinds & set(DESCRIBED)))}."
                    )
                if self.baseline and not rule.referenced:
                    raise RelevanceError(f"{type(rule).__name__} cannot compare with a baseline; choose another rule.")
        missing = set(DESCRIBED) - set(self.rules)
        if missing:
            raise RelevanceError(f"The composite has no rule for {', '.join(sorted(missing))}.")

    def but(self, rules: Rules | None = None, **changes: Any) -> Composite:
        """The same with other rules for some kinds, and other fields."""
        return replace(self, rules={**self.rules, **(rules or {})}, **changes)

    @property
    def detached(self) -> frozenset[str]:
        """The kinds whose values carry no relevance."""
        return frozenset(kind for kind, rule in self.rules.items() if isinstance(rule, Detached))

    def choose(self, plan: Plan) -> dict[Step, Rule]:
        """The rule that stands at each step; none at those that have no rule, and at embeddings."""
        first, last = plan.first, plan.last
        steps = [step for step in plan.steps if step.kind in DESCRIBED and step.kind != "embedding"]
        return {step: self._rule(step, step in first, step in last) for step in steps}

    def _rule(self, step: Step, first: bool, last: bool) -> Rule:
        for pattern, rules in self.named.items():
            if step.kind in rules and fnmatch.fnmatch(step.path, pattern):
                return rules[step.kind]
        if first and step.kind in self.first:
            return self.first[step.kind]
        if last and step.kind in self.last:
            return self.last[step.kind]
        return self.rules[step.kind]


def _weights(rule: Rule, **others: Rule) -> dict[str, Rule]:
    return {"linear": rule, "convolution": rule, "sum": rule, **others}


_REST: dict[str, Rule] = {
    "movement": Gradient(), "maximum": Gradient(), "nonlinearity": Slope(), "product": Half(), "softmax": Detached(),
    "normalisation": Detached(), "general": Gradient(), "embedding": Gradient(),
}  # fmt: skip
_DERIVATIVE: dict[str, Rule] = dict.fromkeys(DESCRIBED, Gradient(remainder=False))


def _gradient() -> Composite:
    """The derivative of the output by each value, as R. Source: 000, section 2, "Gradient"."""
    return Composite(_DERIVATIVE, start="R")


def _gradient_x_input() -> Composite:
    """Each value times the derivative of the output by it."""
    return Composite(_DERIVATIVE)


def _deconvnet() -> Composite:
    """Gradients, but each nonlinearity is applied to what comes back. Source: 000, section 2; Zeiler and Fergus."""
    return _gradient().but({"nonlinearity": Repeat()})


def _guided() -> Composite:
    """Gradients, of which only what is positive passes a ReLU. Source: Springenberg et al. (2015)."""
    return _gradient().but({"nonlinearity": Guided()})


def _lrp() -> Composite:
    """000's LRP with epsilon = 0: normalised, ignore, gradient for maxima; learned biases outside of denominators."""
    return Composite({**_REST, **_weights(Normalised(bias=False))})


def _lrp_epsilon(epsilon: float = 1e-6) -> Composite:
    """Normalised with epsilon everywhere, biases in the denominator. Source: Bach et al. (2015), eq. 58."""
    return Composite({**_REST, **_weights(Normalised(epsilon))})


def _epsilon_plus(epsilon: float = 1e-6, first: str = "") -> Composite:
    """Epsilon for linear layers, z+ for convolutions; `first="flat"` for the flat rule at the first."""
    if first not in ("", "flat"):
        raise RelevanceError(f"first={first!r} is no choice; it is '' or 'flat'.")
    rules = _weights(Normalised(epsilon), convolution=ZPlus())
    return Composite({**_REST, **rules}, first={"convolution": Flat(), "linear": Flat()} if first else {})


def _blame_bias(constants: Literal["each", "all"] = "each") -> Composite:
    """Normalised with epsilon = 0 and biases as inputs, a one for each or one for all: 000's solution 1."""
    return Composite({**_REST, **_weights(Normalised())}, constants=constants)


def _baseline(maximum: str = "soft") -> Composite:
    """000's solution 2: slopes between the input and a baseline; maxima as the limit of a soft maximum, or with
    `maximum="fold"` as `a + relu(b - a)`. Source: 000, section 2, solution 2; Shrikumar et al. (2017), rescale."""
    if maximum not in ("soft", "fold"):
        raise RelevanceError(f"maximum={maximum!r} is no choice; it is 'soft' or 'fold'.")
    chosen = SoftMaximum() if maximum == "soft" else Fold()
    rules = {**_REST, **_weights(Normalised()), "maximum": chosen, "softmax": Gradient(), "normalisation": Slope()}
    return Composite(rules, baseline=True)


NAMED: dict[str, Callable[..., Composite]] = {
    "gradient": _gradient,
    "gradient_x_input": _gradient_x_input,
    "deconvnet": _deconvnet,
    "guided": _guided,
    "lrp": _lrp,
    "lrp_epsilon": _lrp_epsilon,
    "epsilon_plus": _epsilon_plus,
    "blame_bias": _blame_bias,
    "baseline": _baseline,
}
"""The composites by name: functions of their options."""


def composite(name: str, **options: Any) -> Composite:
    """The composite of that name.

    Raises `RelevanceError` for another name, or an option that it does not have.

    >>> composite("lrp_epsilon", epsilon=0.01).rules["linear"]
    Normalised(epsilon=0.01, bias=True)
    """
    if name not in NAMED:
        raise RelevanceError(f"There is no method {name!r}; the methods are {', '.join(NAMED)}.")
    make = NAMED[name]
    try:
        return make(**options)
    except TypeError as error:
        names = make.__code__.co_varnames[: make.__code__.co_argcount]
        known = f"its options are {', '.join(names)}" if names else "it has no options"
        raise RelevanceError(f"{name} does not take {', '.join(options)}; {known}.") from error
