"""Certified bounds on the change of the loss by a removal: are they ever violated, how loose are they, and what does"""

from deadhead.lab.experiments.certificate.experiment import certificate

__all__ = ["certificate"]
