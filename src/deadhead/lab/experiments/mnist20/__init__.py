"""Digits of 20x20 pixels, learned by one layer of 100 units and by two of 50, which are then removed one by one."""

from deadhead.lab.experiments.mnist20.experiment import mnist20_experiment

__all__ = ["mnist20_experiment"]
