"""Single weights closed on a schedule while a small CNN trains on MNIST: what it costs, and where the zeros gather."""

from deadhead.lab.experiments.schedule.experiment import schedule

__all__ = ["schedule"]
