"""`scipy.stats`, imported when it is first used: it takes as long as torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazily:
    """A module that is imported when one of its attributes is asked for.

    Args:
        name: the module's.

    >>> float(Lazily("scipy.stats").norm.cdf(0))
    0.5
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


stats = Lazily("scipy.stats")
