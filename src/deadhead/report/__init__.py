"""A prune made visible: tables and progress bars on the terminal, figures, a page, a JSON file.

All of it is drawn from the plain data of `pruning/record.py`; of the rest of the package it imports the ground only.
Matplotlib and Plotly are imported when something is drawn with them, so that a run which only prints does not wait for
them.
"""

from __future__ import annotations

from deadhead.report.bars import progress_bars
from deadhead.report.curve import curve_figure
from deadhead.report.figures import figure
from deadhead.report.table import print_report
from deadhead.report.write import write

__all__ = ["curve_figure", "figure", "print_report", "progress_bars", "write"]
