"""A report as files: the page for a person, the JSON for a program."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deadhead.pruning.record import Report
from deadhead.report.page import render_page


def write(report: Report, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` to `folder`, which is made where it is missing; returns the two paths.

    Both are rendered before anything is written, written beside their names and then renamed, so that an error or a
    kill leaves earlier files whole. In the JSON, NaN and infinities are null, and settings that JSON has no type for
    are text. Raises `OSError` where the folder cannot be written.

    >>> import tempfile
    >>> from deadhead.pruning.record import GroupRecord, Measures, Report
    >>> measures = Measures(2, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
    >>> group = GroupRecord("conv1", "channel", 2, [0], [0.0, 2.0], [])
    >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, measures, measures,
    ...                 None, 0.0, 1e-4, [group])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page, numbers = write(report, folder)
    ...     page.name, json.loads(numbers.read_text())["headline"]
    ('report.html', 'keeps 50 % of the units: removes 1 of 2 in 1 group')
    """
    target = Path(folder)
    texts = {
        target / "report.html": render_page(report),
        target / "report.json": json.dumps(_plain(report.to_dict()), indent=2, ensure_ascii=False, allow_nan=False)
        + "\n",
    }
    target.mkdir(parents=True, exist_ok=True)
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in texts}
    try:
        for path, text in texts.items():
            partials[path].write_text(text, encoding="utf-8")
        for path, partial in partials.items():
            os.replace(partial, path)
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink()
    return target / "report.html", target / "report.json"


def _plain(value: Any) -> Any:
    """`value` in the types of JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
