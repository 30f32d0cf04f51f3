"""Error surfaces of removed units: what the error becomes as the gain of a unit goes from 0 to 10."""

from deadhead.lab.experiments.surfaces.experiment import surfaces

__all__ = ["surfaces"]
