"""Networks drawn as layered graphs: units as nodes, layers as columns, removed units and their edges crossed out."""

from deadhead.lab.experiments.layers.experiment import layers

__all__ = ["layers"]
