"""Relevance rules on random networks: what holds to rounding, what breaks it, and where denominators go wrong."""

from deadhead.lab.experiments.rules.experiment import rules

__all__ = ["rules"]
