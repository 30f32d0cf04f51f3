"""Progress as a callback that the caller hands down: nothing below `report` prints or draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Progress = Callable[[str, int, int], None]
"""Called as `progress(step, done, total)`: `done` runs from 0 to `total`."""

Item = TypeVar("Item")


def track(progress: Progress | None, step: str, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
    """Yield items, and report to `progress` before the first and after each.

    Args:
        progress: The callback, or None.
        step: What the step is called.
        items: What to go through.
        total: How many there are; by default their length, or 0 where they have none.

    Example:
        >>> seen = []
        >>> list(track(lambda *event: seen.append(event), "scores", "ab"))
        ['a', 'b']
        >>> seen
        [('scores', 0, 2), ('scores', 1, 2), ('scores', 2, 2)]
    """
    if progress is None:
        yield from items
        return
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    progress(step, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        progress(step, done, total)
