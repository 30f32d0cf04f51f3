"""The registry of experiments: functions from settings and a seed to plain results, by name.

Other packages add theirs by entry points of the group `deadhead.experiments`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from deadhead.errors import DeadheadError
from deadhead.lab.experiment import Claim, Experiment, Picture
from deadhead.progress import Progress
from deadhead.registry import Registry

EXPERIMENTS: Registry[Experiment] = Registry("experiment", "experiments", DeadheadError)
"""Experiments by name."""

F = TypeVar("F", bound=Callable[..., dict[str, Any]])


def experiment(
    name: str,
    settings: type[Any],
    *,
    claims: Sequence[Claim] = (),
    pictures: Sequence[Picture] = (),
    quick: Mapping[str, Any] | None = None,
    takeaway: str = "",
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[F], F]:
    """Register a function as the experiment of that name.

    Args:
        name: what `run_experiment` and `deadhead lab run` find it by.
        settings: a frozen dataclass whose fields have defaults.
        claims: what its results decide (default: nothing).
        pictures: figures of its results (default: none).
        quick: settings of a quick run that differ from the defaults (default: none).
        takeaway: what a reader takes away, with placeholders for numbers (default: the count of verdicts alone).
        variants: settings that differ, by name, run beside the defaults to separate causes (default: none).

    Returns:
        A decorator for a function (settings, seed, progress) that returns plain results: a dict of numbers, strings,
        lists and dicts. Its docstring's first paragraph says what it measures.

    Raises:
        ValueError: if an experiment of that name exists.

    Example::

        from deadhead.lab.experiments import experiment

        @dataclass(frozen=True)
        class Coin:
            throws: int = 100

        @experiment("coin", Coin)
        def coin(settings: Coin, seed: int, progress: Progress | None) -> dict[str, Any]:
            "How often a fair coin shows heads."
            return {"heads": random.Random(seed).choices([0, 1], k=settings.throws).count(1)}

    >>> "consistency" in EXPERIMENTS
    True
    """

    def register(function: F) -> F:
        EXPERIMENTS.add(Experiment(name, function, settings, claims, pictures, quick or {}, takeaway, variants or {}))
        return function

    return register


def run_experiment(
    name: str, *, seed: int = 0, quick: bool = False, progress: Progress | None = None, **settings: Any
) -> dict[str, Any]:
    """Run the experiment of that name, in memory.

    Args:
        name: a name in `EXPERIMENTS`.
        seed: fixes all that is drawn.
        quick: start from the quick run's settings.
        progress: called as `progress(step, done, total)`.
        settings: the experiment's settings (default: its own).

    Returns:
        Plain results: a dict of numbers, strings, lists and dicts.

    Raises:
        DeadheadError: if there is no such experiment, or it has no such setting, or of another type.

    >>> sorted(run_experiment("consistency"))[:2]
    ['agreements', 'constants_tried']
    >>> run_experiment("consistancy")
    Traceback (most recent call last):
    deadhead.errors.DeadheadError: There is no experiment 'consistancy'; did you mean 'consistency'? ...
    """
    EXPERIMENTS.check_options(name, settings)
    entry = EXPERIMENTS[name]
    results: dict[str, Any] = entry.function(entry.read(settings, quick=quick), seed, progress)
    return results
