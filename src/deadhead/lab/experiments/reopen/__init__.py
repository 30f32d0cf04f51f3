"""Units that are closed for a while and opened again, against units that are removed for good."""

from deadhead.lab.experiments.reopen.experiment import reopen

__all__ = ["reopen"]
