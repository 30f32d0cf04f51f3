"""`Pruned`: what a prune gives."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from deadhead.cut.saved import save
from deadhead.cut.surgery import Surgery
from deadhead.files import write_together
from deadhead.graph.trace import export_as_is
from deadhead.pruning.record import Report
from deadhead.select.plan import Plan


@dataclass(frozen=True)
class Pruned:
    """What `prune` gives: the smaller `model`, the `plan` that was carried out, the `report` of what it did, the
    `surgery` that makes an intact model of the same class as small, and the `optimizer` that was cut along."""

    model: nn.Module
    plan: Plan
    report: Report
    surgery: Surgery
    optimizer: Optimizer | None = None
    example: Any = None
    batch_axis: int = 0

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the pruned model as a program of torch.export (`.pt2`), which runs without its class.

        Raises `TraceError` where the model cannot be exported under its own signature.
        """
        content = io.BytesIO()
        torch.export.save(export_as_is(self.model, self.example, self.batch_axis), content)
        write_together({Path(path): content.getvalue()})
        return Path(path)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write weights (safetensors), surgery and report (JSON) to a folder, each beside and renamed.

        `deadhead.load(folder, model)` reads them back; loading runs no code.
        """
        return save(folder, self.model, self.surgery, self.report.to_json())
