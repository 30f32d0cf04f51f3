"""Networks whose units are read by one product with a weight, of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import unit_gain

Op = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Reading:
    """`op(units, weight, bias)`, the shapes of the weight and of the bias, None without one, and how units are made:
    "rows" (n, 6), "experts" (2, n, 6), "second" (n, 2, 6), or channels of maps (n, 6, ...) of so many axes."""

    op: Op
    weight: tuple[int, ...]
    bias: tuple[int, ...] | None = None
    made: str | int = "rows"


TURNED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def turned(rank: int, shape: tuple[int, ...], **options: Any) -> Reading:
    """A transposed convolution of maps with `rank` axes."""
    outputs = shape[1] * options.get("groups", 1)
    return Reading(lambda h, w, b: TURNED[rank](h, w, b, **options), shape, (outputs,), rank)  # type: ignore[operator]


READINGS = {
    "transposed": turned(2, (6, 4, 3, 3)),
    "transposed, stride 2": turned(2, (6, 4, 3, 2), stride=2),
    "transposed, padding": turned(2, (6, 4, 3, 3), stride=2, padding=1),
    "transposed, padding beyond the kernel": turned(2, (6, 4, 2, 2), stride=3, padding=2, output_padding=2),
    "transposed, output padding": turned(2, (6, 4, 4, 3), stride=(2, 3), padding=1, output_padding=(1, 2)),
    "transposed, groups": turned(2, (6, 2, 3, 3), stride=2, groups=2, padding=1, output_padding=1),
    "transposed, dilation": turned(2, (6, 4, 2, 3), stride=2, dilation=(3, 2), padding=(0, 1)),
    "transposed, all of it": turned(
        2, (6, 2, 3, 2), stride=(3, 2), groups=3, dilation=(2, 1), padding=(1, 0), output_padding=(2, 0)
    ),
    "transposed, gaps": turned(2, (6, 4, 2, 2), stride=3),
    "transposed, one axis": turned(1, (6, 4, 4), stride=2, padding=1),
    "transposed, three axes": turned(3, (6, 2, 2, 2, 3), stride=2, groups=2, dilation=(1, 2, 1)),
    "linear": Reading(lambda h, w, b: F.linear(h, w, b), (4, 6), (4,)),
    "x w": Reading(lambda h, w, b: h @ w, (6, 4)),
    "x w^T": Reading(lambda h, w, b: h @ w.T, (4, 6)),
    "w x": Reading(lambda h, w, b: (w @ h.T).T, (4, 6)),
    "w^T x": Reading(lambda h, w, b: (w.t() @ h.mT).mT, (6, 4)),
    "w x of maps": Reading(lambda h, w, b: w @ h, (4, 6), None, 1),
    "x of maps w": Reading(lambda h, w, b: h.movedim(1, 2) @ w, (6, 4), None, 1),
    "linear of a weight by units": Reading(lambda h, w, b: F.linear(w, h).T, (4, 6)),
    "x w with one output": Reading(lambda h, w, b: h @ w, (6, 1)),
    "a vector": Reading(lambda h, w, b: (h @ w)[:, None], (6,)),
    "addmm": Reading(lambda h, w, b: torch.addmm(b, h, w), (6, 4), (4,)),  # type: ignore[arg-type]
    "addmm from the left": Reading(lambda h, w, b: torch.addmm(b, w, h.T).T, (4, 6), (4, 1)),  # type: ignore[arg-type]
    "heads": Reading(lambda h, w, b: (h @ w).movedim(1, 0), (2, 6, 4)),
    "broadcast weight": Reading(lambda h, w, b: (h @ w).movedim(1, 0), (1, 6, 4), None, "experts"),
    "experts": Reading(lambda h, w, b: torch.bmm(h, w).movedim(1, 0), (2, 6, 4), None, "experts"),
    "experts, transposed": Reading(
        lambda h, w, b: torch.bmm(h, w.transpose(1, 2)).movedim(1, 0), (2, 4, 6), None, "experts"
    ),
    "experts with a bias": Reading(
        lambda h, w, b: torch.baddbmm(b, h, w).movedim(1, 0), (2, 6, 4), (2, 1, 4), "experts"  # type: ignore[arg-type]
    ),
    "experts from the left": Reading(lambda h, w, b: (w @ h.mT).movedim(2, 0), (2, 4, 6), None, "experts"),
    "einsum": Reading(lambda h, w, b: torch.einsum("ni,io->no", h, w), (6, 4)),
    "einsum of experts": Reading(lambda h, w, b: torch.einsum("nei,eoi->neo", h, w), (2, 4, 6), None, "second"),
    "einsum over experts": Reading(lambda h, w, b: torch.einsum("nei,eio->no", h, w), (2, 6, 4), None, "second"),
    "einsum over positions": Reading(lambda h, w, b: torch.einsum("oi,nsi->no", w, h), (4, 6), None, "second"),
    "einsum, two axes of outputs": Reading(lambda h, w, b: torch.einsum("ni,pio->opn", h, w).movedim(2, 0), (2, 6, 4)),
    "einsum with dots": Reading(lambda h, w, b: torch.einsum("...i,io->...o", h, w), (6, 4), None, "second"),
}  # fmt: skip


class Read(nn.Module):
    """Units, and what reads them; `gain` scales what the reader gives."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        made = reading.made
        if isinstance(made, int):
            self.first: nn.Module = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[made](2, 6, 1)
        elif made == "rows":
            self.first = nn.Linear(3, 6)
        else:
            self.up = nn.Parameter(torch.zeros(2, 3, 6))
        self.weight = nn.Parameter(torch.zeros(reading.weight))
        self.bias = None if reading.bias is None else nn.Parameter(torch.zeros(reading.bias))

    def units(self, x: Tensor) -> Tensor:
        if self.reading.made == "experts":
            return torch.tanh(torch.einsum("nd,edh->enh", x, self.up))
        if self.reading.made == "second":
            return torch.tanh(torch.einsum("nd,edh->neh", x, self.up))
        return torch.tanh(self.first(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.reading.op(self.units(x), self.weight, self.bias)


def reader(name: str) -> Read:
    model = unit_gain(Read(READINGS[name]))
    assert isinstance(model, Read)
    return model


def inputs(name: str, rows: int, seed: int = 0) -> Tensor:
    made = READINGS[name].made
    shape = (2, *[5, 4, 3][:made]) if isinstance(made, int) else (3,)
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
