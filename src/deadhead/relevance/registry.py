"""The registry of attribution methods: composites and averages by the names that `attribute` takes.

A method is a function whose keyword-only arguments are its options, and which returns a `Composite` (which rule stands
at which kind of op) or a `GradientAverage`. Other packages add theirs by entry points of the group
`deadhead.composites`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from deadhead.errors import RelevanceError
from deadhead.registry import Entry, Registry

METHODS: Registry[Entry] = Registry("method", "methods", RelevanceError, group="composites")
"""Attribution methods by name."""

F = TypeVar("F", bound=Callable[..., Any])


def composite(name: str) -> Callable[[F], F]:
    """Register a function as the attribution method of that name.

    Args:
        name: what `attribute(..., method=name)` finds it by.

    Returns:
        A decorator for a function that has nothing but keyword-only arguments, the method's options, and returns a
        `Composite` or a `GradientAverage`.

    Raises:
        ValueError: if a method of that name exists.

    Example::

        from deadhead.relevance import composite, named_composite
        from deadhead.relevance.rules import Epsilon, ZPlus

        @composite("z_plus_below")
        def z_plus_below(*, epsilon: float = 1e-6) -> dh.Composite:
            "LRP-z+ for convolutions, LRP-epsilon for linear layers."
            return named_composite("lrp_epsilon", epsilon=epsilon).but({"convolution": ZPlus()})

    >>> "lrp" in METHODS, METHODS["lrp_epsilon"].options
    (True, {'epsilon': 1e-06})
    """

    def register(function: F) -> F:
        METHODS.add(Entry(name, function))
        return function

    return register


def make_method(name: str, **options: Any) -> Any:
    """Build the attribution method of that name with these options.

    Args:
        name: a name in `METHODS`.
        options: the method's options.

    Returns:
        A `Composite` or a `GradientAverage`.

    Raises:
        RelevanceError: if there is no such method, or it has no such option.

    >>> make_method("smoothgrad", samples=5)
    SmoothGrad(samples=5, noise=0.15, seed=0)
    >>> make_method("lrp_epsilon", gamma=1.0)
    Traceback (most recent call last):
    deadhead.errors.RelevanceError: The method lrp_epsilon has no option 'gamma'; its options are epsilon.
    """
    METHODS.check_options(name, options)
    return METHODS[name].function(**options)
