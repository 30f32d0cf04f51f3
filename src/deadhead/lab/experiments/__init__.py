"""Experiments, one file for each: functions registered by name, from settings and a seed to plain results.

`registry` finds them by name. A new experiment is a file here with a function under `@experiment("name")`, and its
import below. Files here import anything of the package but the command line.
"""

from deadhead.lab.experiments import (
    cascade,
    certificate,
    circle,
    consistency,
    cosine,
    goodhart,
    layers,
    mnist20,
    one_digit,
    rules,
    schedule,
    shapes,
    spiral,
    surfaces,
)
from deadhead.lab.experiments.registry import EXPERIMENTS, experiment, run_experiment

__all__ = [
    "EXPERIMENTS",
    "cascade",
    "certificate",
    "circle",
    "consistency",
    "cosine",
    "experiment",
    "goodhart",
    "layers",
    "mnist20",
    "one_digit",
    "rules",
    "run_experiment",
    "schedule",
    "shapes",
    "spiral",
    "surfaces",
]
