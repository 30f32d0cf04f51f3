"""The line that every benchmark starts with."""

from __future__ import annotations

import datetime
import platform

import torch


def print_machine() -> None:
    """Machine, versions and date."""
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {datetime.date.today().isoformat()}"
    )
