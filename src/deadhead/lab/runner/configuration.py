"""What to run: a YAML file or values by name, checked when read, lists and ranges expanded by a parser."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from deadhead.errors import DeadheadError
from deadhead.lab.experiments import EXPERIMENTS

KEYS = ("experiment", "seeds", "quick", "options", "cluster")
RANGE = re.compile(r"range\(\s*(-?\d+)\s*(?:,\s*(-?\d+)\s*)?(?:,\s*(-?[1-9]\d*)\s*)?\)")


@dataclass(frozen=True)
class Plan:
    """An experiment with every combination of option values and seeds that is to be run.

    Args:
        experiment: its name.
        options: settings of each combination; what is missing has its default.
        seeds: run for each combination.
        quick: start from the quick run's settings.
        cluster: `executor` and parameters of `run_on_cluster` (default: the jobs run here).
    """

    experiment: str
    options: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    quick: bool = False
    cluster: dict[str, Any] = field(default_factory=dict)

    def variants(self) -> dict[str, Plan]:
        """Plans of the experiment's variants: none beside settings other than the defaults."""
        if self.quick or self.options != ({},):
            return {}
        changed = EXPERIMENTS[self.experiment].variants
        return {name: replace(self, options=(dict(options),)) for name, options in changed.items()}


def expanded(value: Any) -> Any:
    """`value`, or the numbers of a text of the form range(stop), range(start, stop) or range(start, stop, step).

    Args:
        value: as read from YAML; in a list each entry may be a range.

    >>> expanded("range(5)"), expanded([1, "range(4, 10, 2)"]), expanded("range(x)")
    ([0, 1, 2, 3, 4], [1, 4, 6, 8], 'range(x)')
    """
    if isinstance(value, list):
        parts = [(each, expanded(each)) for each in value]
        return [x for each, new in parts for x in (new if isinstance(each, str) and isinstance(new, list) else [new])]
    found = RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    return list(range(*(int(each) for each in found.groups() if each is not None))) if found else value


def plan(experiment: str, options: Mapping[str, Any] | None = None, *, seeds: Any = (0,), quick: bool = False) -> Plan:
    """Check options and expand them into combinations.

    Args:
        experiment: its name.
        options: values by name; a list of values is every one of them in turn, also for an option that is itself a
            list, whose values are then lists of lists.
        seeds: a number of seeds, "range(5)", or a list of them (default: seed 0).
        quick: start from the quick run's settings.

    Raises:
        DeadheadError: no such experiment or option, or a value of another type.

    >>> [each["networks"] for each in plan("circle", {"networks": [10, 20]}, seeds=2).options]
    [10, 20]
    """
    options = dict(options or {})
    EXPERIMENTS.check_options(experiment, options)
    entry = EXPERIMENTS[experiment]
    choices = [_choices(expanded(value), entry.options[name]) for name, value in options.items()]
    combinations = tuple(dict(zip(options, each, strict=True)) for each in itertools.product(*choices))
    for each in combinations:
        entry.read(each, quick=quick)
    return Plan(experiment, combinations, _seeds(seeds), quick)


def read_plan(path: Path, overrides: Mapping[str, Any] | None = None) -> Plan:
    """The plan in a YAML file, with options of the command line in place of its own.

    Args:
        path: a mapping of experiment, seeds, quick, options and cluster (executor, and parameters of submitit such as
            timeout_min or slurm_partition).
        overrides: options by name.

    Raises:
        DeadheadError: the file is not such a mapping, or names what does not exist.
    """
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        raise DeadheadError("Reading a YAML file needs PyYAML: pip install pyyaml.") from error
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeadheadError(f"{path} cannot be read as YAML ({' '.join(str(error).split())}): correct it.") from error
    if not isinstance(content, dict) or "experiment" not in content:
        raise DeadheadError(f"{path} names no experiment: give a mapping of {', '.join(KEYS)}.")
    for key in content:
        if key not in KEYS:
            raise DeadheadError(f"{path} has the unknown entry {key!r}: use {', '.join(KEYS)}.")
    options, cluster = content.get("options") or {}, content.get("cluster") or {}
    mappings = isinstance(options, dict) and isinstance(cluster, dict)
    if not mappings or not isinstance(content.get("quick", False), bool):
        raise DeadheadError(
            f"{path}: give options and cluster as mappings of values by name, and quick as true or false."
        )
    seeds, quick = content.get("seeds", 1), content.get("quick", False)
    found = plan(str(content["experiment"]), {**options, **(overrides or {})}, seeds=seeds, quick=quick)
    return replace(found, cluster=cluster)


def _choices(value: Any, default: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    if isinstance(default, tuple):
        return value if value and all(isinstance(each, list) for each in value) else [value]
    return value


def _seeds(given: Any) -> tuple[int, ...]:
    found = expanded(list(given) if isinstance(given, tuple) else given)
    found = list(range(found)) if isinstance(found, int) and not isinstance(found, bool) else found
    whole = isinstance(found, list) and all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in found)
    if not whole or not found:
        raise DeadheadError(f"seeds is {given!r}: give how many, as in 5, or a list or range of whole numbers.")
    return tuple(dict.fromkeys(found))
