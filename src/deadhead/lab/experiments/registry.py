"""The registry of experiments: functions from settings and a seed to plain results, by name.

Other packages add theirs by entry points of the group `deadhead.experiments`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from deadhead.errors import DeadheadError
from deadhead.registry import Entry, Registry

EXPERIMENTS: Registry[Entry] = Registry("experiment", "experiments", DeadheadError)
"""Experiments by name."""

F = TypeVar("F", bound=Callable[..., dict[str, Any]])


def experiment(name: str) -> Callable[[F], F]:
    """Register a function as the experiment of that name.

    Args:
        name: what `run_experiment` and `deadhead lab run` find it by.

    Returns:
        A decorator for a function that has nothing but keyword-only arguments, the settings, `seed` among them, and
        returns plain results: a dict of numbers, strings, lists and dicts. Its docstring's first sentence says what it
        measures.

    Raises:
        ValueError: if an experiment of that name exists.

    Example::

        from deadhead.lab.experiments import experiment

        @experiment("coin")
        def coin(*, seed: int = 0, throws: int = 100) -> dict[str, Any]:
            "How often a fair coin shows heads."
            return {"heads": random.Random(seed).choices([0, 1], k=throws).count(1)}

    >>> "consistency" in EXPERIMENTS
    True
    """

    def register(function: F) -> F:
        EXPERIMENTS.add(Entry(name, function))
        return function

    return register


def run_experiment(name: str, **settings: Any) -> dict[str, Any]:
    """Run the experiment of that name.

    Args:
        name: a name in `EXPERIMENTS`.
        settings: the experiment's settings, `seed` among them (default: its own).

    Returns:
        Plain results: a dict of numbers, strings, lists and dicts.

    Raises:
        DeadheadError: if there is no such experiment, or it has no such setting.

    >>> sorted(run_experiment("consistency"))
    ['maximum with constants', 'scaling equivalence']
    >>> run_experiment("consistancy")
    Traceback (most recent call last):
    deadhead.errors.DeadheadError: There is no experiment 'consistancy'; did you mean 'consistency'? ...
    """
    EXPERIMENTS.check_options(name, settings)
    results: dict[str, Any] = EXPERIMENTS[name].function(**settings)
    return results
