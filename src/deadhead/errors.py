"""The errors of deadhead: one sentence that names the thing, the reason and the remedy."""


class DeadheadError(Exception):
    """Anything that deadhead refuses to do."""


class TraceError(DeadheadError):
    """The network cannot be traced, or its graph does not compute what the module computes."""


class DataError(DeadheadError):
    """The data or an option cannot be used: no samples, a single one, targets that do not match, values that are not
    finite, a name that does not exist."""


class LossError(DeadheadError):
    """The loss is unknown, is not one number per sample, or is not finite."""


class BudgetError(DeadheadError):
    """The budget is out of range, ambiguous, changes nothing or cannot be reached."""


class CutError(DeadheadError):
    """Nothing can be cut, or a cut network does not compute what its gated original computes."""


class LoadError(DeadheadError):
    """A saved result cannot be read, or does not belong to the model given."""


class RelevanceError(DeadheadError):
    """An op has no rule for relevance, or what is asked of an attribution has no meaning."""


class MaskError(DeadheadError):
    """Units or weights cannot be closed or opened, or closed entries are no longer zero."""
