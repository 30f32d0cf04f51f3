"""Saliencies of single weights through training: what each predicts, and what removing by it does to the loss."""

from deadhead.lab.experiments.parameter_saliencies.experiment import parameter_saliencies

__all__ = ["parameter_saliencies"]
