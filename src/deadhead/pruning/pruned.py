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
from deadhead.cut.surgery import Surgery, surgery_behind
from deadhead.files import write_together
from deadhead.graph.trace import export_as_is
from deadhead.pruning.record import Report
from deadhead.select.plan import Plan


@dataclass(frozen=True)
class Pruned:
    """What `prune` returns.

    Attributes:
        model: the smaller model, of the user's own class.
        plan: the units that were removed, in their order.
        report: sizes, loss, accuracy and more, before and after; `print(pruned.report)` shows it.
        surgery: what makes an intact model of the same class as small: all that led to it, where it was pruned before.
        optimizer: the optimizer that was cut along; None without one, a tuple of them where several train the model.
        example: inputs that the model can be called with.
        batch_axis: the axis of the inputs along which the samples lie.

    Example:
        >>> import deadhead
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> data = [(torch.randn(64, 2), torch.randint(2, (64,)))]
        >>> pruned = deadhead.prune(model, data, loss="cross_entropy", units=0.25)
        >>> pruned.model[0].out_features, pruned.plan.count
        (4, 12)
    """

    model: nn.Module
    plan: Plan
    report: Report
    surgery: Surgery
    optimizer: Optimizer | tuple[Optimizer, ...] | None = None
    example: Any = None
    batch_axis: int = 0

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Export the pruned model as a program of torch.export (`.pt2`), which runs without its class.

        Args:
            path: the file to write.

        Returns:
            The file.

        Raises:
            TraceError: where the model cannot be exported under its own signature.
            OSError: where the file cannot be written.
        """
        content = io.BytesIO()
        torch.export.save(export_as_is(self.model, self.example, self.batch_axis), content)
        write_together({Path(path): content.getvalue()})
        return Path(path)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Save weights (safetensors), surgery and report (JSON) to a folder: all files, or none.

        `deadhead.load(folder, model)` reads them back, given an intact instance of the class, also where the model was
        pruned several times; loading runs no code.

        Args:
            folder: where to write; made where it is missing.

        Returns:
            The folder.

        Raises:
            OSError: where the folder cannot be written.
        """
        behind = surgery_behind(self.model)
        return save(folder, self.model, behind if behind != Surgery() else self.surgery, self.report.to_json())
