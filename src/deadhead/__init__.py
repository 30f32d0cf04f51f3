"""deadhead: score the units of a trained PyTorch network, and remove those that it does not need."""

from deadhead.cut.saved import load
from deadhead.errors import (
    BudgetError,
    CutError,
    DataError,
    DeadheadError,
    LoadError,
    LossError,
    MaskError,
    RelevanceError,
    TraceError,
)
from deadhead.explore import draw_layers, layered_graph
from deadhead.graph.network import Network, trace
from deadhead.pruning.minimise import minimise
from deadhead.pruning.prune import prune
from deadhead.pruning.pruned import Pruned
from deadhead.relevance import Composite, Relevance, attribute, relevance_loss
from deadhead.scores import certify, error_surface, full_hessian, score, score_parameters
from deadhead.select.brute_force.oracle import Removal, oracle
from deadhead.training import (
    Attack,
    Gradual,
    Masks,
    Recovered,
    Schedule,
    Storage,
    Watch,
    recover,
    storage,
    undisturbed,
    watch,
)

__version__ = "0.1.0"

__all__ = [
    "Attack", "BudgetError", "Composite", "CutError", "DataError", "DeadheadError", "Gradual", "LoadError",
    "LossError", "MaskError", "Masks", "Network", "Pruned", "Recovered", "Relevance", "RelevanceError", "Removal",
    "Schedule", "Storage", "TraceError", "Watch", "attribute", "certify", "draw_layers", "error_surface",
    "full_hessian", "layered_graph", "load", "minimise", "oracle", "prune", "recover", "relevance_loss", "score",
    "score_parameters", "storage", "trace", "undisturbed", "watch",
]  # fmt: skip
