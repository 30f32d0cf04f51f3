"""Saliencies of units through training: what the loss is when a part of a layer's units is replaced by constants."""

from deadhead.lab.experiments.unit_saliencies.experiment import unit_saliencies

__all__ = ["unit_saliencies"]
