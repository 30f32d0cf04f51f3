"""A report as files: a page to read, and JSON for programs."""

from __future__ import annotations

import os
from pathlib import Path

from deadhead.files import write_together
from deadhead.pruning.record import Report
from deadhead.report.page import render_page


def write(report: Report, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` to a folder: both or none.

    Args:
        report: What a prune did.
        folder: Where to write; made where it is missing.

    Returns:
        The paths of the two files.

    Raises:
        OSError: The folder cannot be written; what was there before is as it was.

    Example:
        >>> import json, tempfile
        >>> from deadhead.pruning.record import GroupRecord, Measures, Report
        >>> measures = Measures(2, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
        >>> group = GroupRecord("conv1", "channel", 2, [0], [0.0, 2.0], [])
        >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, measures,
        ...                 measures, None, 0.0, 1e-4, [group])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page, numbers = write(report, folder)
        ...     page.name, json.loads(numbers.read_text())["headline"]
        ('report.html', 'keeps 50 % of the units: removes 1 of 2 in 1 group')
    """
    page, numbers = Path(folder) / "report.html", Path(folder) / "report.json"
    write_together({page: render_page(report), numbers: report.to_json()})
    return page, numbers
