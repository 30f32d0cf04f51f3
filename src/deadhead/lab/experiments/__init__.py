"""Experiments, a folder for each: functions registered by name, from settings and a seed to plain results.

`registry` finds them by name. A new experiment is a folder here: experiment.py with a function under
`@experiment("name")`, claims.py, figures.py and what else it needs, and its import below. Files here import anything of
the package but the command line.
"""

from deadhead.lab.experiments import (
    attack,
    cascade,
    certificate,
    circle,
    consistency,
    cosine,
    goodhart,
    importance,
    layers,
    mnist20,
    one_digit,
    parameter_saliencies,
    regulariser,
    reopen,
    rules,
    schedule,
    shapes,
    spiral,
    storage,
    surfaces,
    unit_pruning,
    unit_saliencies,
)
from deadhead.lab.experiments.registry import EXPERIMENTS, experiment, run_experiment

__all__ = [
    "EXPERIMENTS",
    "attack",
    "cascade",
    "certificate",
    "circle",
    "consistency",
    "cosine",
    "experiment",
    "goodhart",
    "importance",
    "layers",
    "mnist20",
    "one_digit",
    "parameter_saliencies",
    "regulariser",
    "reopen",
    "rules",
    "run_experiment",
    "schedule",
    "shapes",
    "spiral",
    "storage",
    "surfaces",
    "unit_pruning",
    "unit_saliencies",
]
