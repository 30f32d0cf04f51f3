"""Importance of single weights by magnitude, by how much training adjusted them and by gradient, and of whole units."""

from deadhead.lab.experiments.importance.experiment import importance

__all__ = ["importance"]
