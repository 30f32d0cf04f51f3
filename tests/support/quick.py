"""Which cases of a claim `make test` runs; the others are `exhaustive`, for `make test-all` and CI."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest


def each_of(values: Iterable[Any], quick: Collection[Any] | Callable[[Any], bool]) -> list[Any]:
    """The values as parameters of a test, exhaustive but for those that are in `quick`, or of which it is true."""
    is_quick = quick if callable(quick) else lambda value: value in quick
    return [pytest.param(each, marks=() if is_quick(each) else pytest.mark.exhaustive) for each in values]
