"""Which cases of a claim `make test` runs; the others are `exhaustive`, for `make test-all` and CI."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest


def each_of(values: Iterable[Any], quick: Collection[Any] | Callable[[Any], bool], group: bool = False) -> list[Any]:
    """The values as parameters of a test, marked exhaustive but for those that are in `quick`, or of which it is true.

    With `group`, all tests of one value run in one process, so that they share what is made of it.
    """
    is_quick = quick if callable(quick) else lambda value: value in quick
    params = []
    for value in values:
        marks = [] if is_quick(value) else [pytest.mark.exhaustive]
        if group:
            marks.append(pytest.mark.xdist_group(str(value)))
        params.append(pytest.param(value, marks=marks))
    return params
