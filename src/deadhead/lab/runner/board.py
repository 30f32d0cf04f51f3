"""Results as TensorBoard logs: scalars, and lists of numbers as series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deadhead.errors import DeadheadError


def write_board(folder: Path, results: Mapping[str, Any]) -> None:
    """Write the numbers of a job's results as TensorBoard events.

    Args:
        folder: of the events.
        results: of one job; texts and lists of lists are left out.

    Raises:
        DeadheadError: tensorboard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DeadheadError("Logs for TensorBoard need it: pip install tensorboard.") from error
    writer = SummaryWriter(str(folder))
    for name, step, value in scalars(results):
        writer.add_scalar(name, value, step)
    writer.close()


def scalars(results: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, int, float]]:
    """Name, step and value of each number among results.

    Args:
        results: numbers, lists of numbers and mappings of them by name.
        above: names of the mappings that these results stand in, each with a slash.

    >>> list(scalars({"loss": 0.5, "curve": [1.0, 2.0], "name": "x", "kept": {"share": 0.1}}))
    [('loss', 0, 0.5), ('curve', 0, 1.0), ('curve', 1, 2.0), ('kept/share', 0, 0.1)]
    """
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{above}{name}/")
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(each, (int, float)) for each in values):
            yield from ((f"{above}{name}", step, float(each)) for step, each in enumerate(values))
