"""Modules that are imported when they are first used: `scipy.stats` alone takes as long as torch."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


def lazily(name: str) -> Any:
    """A module that is imported when one of its attributes is first asked for.

    Args:
        name: the module's, of an installed package.

    >>> lazily("scipy.stats").norm.cdf(0)
    np.float64(0.5)
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"There is no module {name}.", name=name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


stats = lazily("scipy.stats")
