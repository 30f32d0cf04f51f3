"""A small CNN that loses three fifths of the units of every layer while it trains, beside its twin that does not."""

from deadhead.lab.experiments.unit_pruning.experiment import unit_pruning

__all__ = ["unit_pruning"]
