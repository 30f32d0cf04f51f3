"""Which cases of a claim `make test` runs; the others are `exhaustive`, for CI, or `long`, for `make test-all`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest


def each_of(
    values: Iterable[Any], quick: Collection[Any] | Callable[[Any], bool], long: Collection[Any] = ()
) -> list[Any]:
    """The values as parameters of a test, exhaustive but for those that are in `quick`, or of which it is true.

    Those in `long` are left to `make test-all`.
    """
    is_quick = quick if callable(quick) else lambda value: value in quick

    def marks(value: Any) -> tuple[pytest.MarkDecorator, ...]:
        if is_quick(value):
            return ()
        return (pytest.mark.exhaustive, pytest.mark.long) if value in long else (pytest.mark.exhaustive,)

    return [pytest.param(each, marks=marks(each)) for each in values]
