"""Progress bars on the terminal for the callback of `progress.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from deadhead.progress import Progress


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show a bar on standard error for each step that reports to the callback yielded.

    Each bar has the step's name, how much is done, the elapsed and the remaining time; a step that starts again takes
    its own bar again. Where standard error is not a terminal nothing is shown, so that logs and pipes stay clean.

    Example:
        >>> with progress_bars() as progress:
        ...     progress("score", 1, 10)
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step, done, total: None
        return
    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("remaining"),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def progress(step: str, done: int, total: int) -> None:
        # Zero stands for a total that nobody knows: rich then shows a pulse in place of a share.
        known = total or None
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=known)
        elif done == 0:
            bars.reset(tasks[step], total=known)
        bars.update(tasks[step], completed=done, total=known)

    with bars:
        yield progress
