"""A diamond and a random shape in the plane, told from the rest by two layers of 50 units, which are then removed."""

from deadhead.lab.experiments.shapes.experiment import shapes

__all__ = ["shapes"]
