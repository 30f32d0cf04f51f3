"""Experiments, one file for each: functions registered by name, from settings and a seed to plain results.

`registry` finds them by name. A new experiment is a file here with a function under `@experiment("name")`, and its
import below. Files here import anything of the package but the command line.
"""

from deadhead.lab.experiments import attack, circle, consistency, spiral
from deadhead.lab.experiments.registry import EXPERIMENTS, experiment, run_experiment

__all__ = ["EXPERIMENTS", "attack", "circle", "consistency", "experiment", "run_experiment", "spiral"]
