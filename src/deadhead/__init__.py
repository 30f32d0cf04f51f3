"""deadhead: find out what each unit of a trained PyTorch network is worth, and take off those that carry nothing."""

from deadhead.errors import BudgetError, CutError, DataError, DeadheadError, LoadError, LossError, TraceError
from deadhead.graph.network import Network, trace
from deadhead.prune import Pruned, prune
from deadhead.saved import load
from deadhead.scores import score

__version__ = "0.1.0"

__all__ = [
    "BudgetError", "CutError", "DataError", "DeadheadError", "LoadError", "LossError", "Network", "Pruned",
    "TraceError", "load", "prune", "score", "trace",
]  # fmt: skip
