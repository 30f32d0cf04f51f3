"""Recurrent layers as the ops of their steps, so that a gate can stand at every step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import decomposition_table
from torch.export import ExportedProgram

from deadhead.errors import TraceError
from deadhead.graph.catalogue import names_of

LAYERS = names_of("recurrent layer")


def _lstm_cell(
    x: Tensor, state: Sequence[Tensor], w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    hidden, cell = state
    enter, forget, new, out = (F.linear(x, w, b) + F.linear(hidden, u, c)).chunk(4, -1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _gru_cell(
    x: Tensor, hidden: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None
) -> Tensor:
    reset, update, new = F.linear(x, w, b).chunk(3, -1)
    reset_there, update_there, new_there = F.linear(hidden, u, c).chunk(3, -1)
    new = (new + (reset + reset_there).sigmoid() * new_there).tanh()
    return new + (update + update_there).sigmoid() * (hidden - new)


def _rnn_cell(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def cell(
        x: Tensor, hidden: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None
    ) -> Tensor:
        return activation(F.linear(x, w, b) + F.linear(hidden, u, c))

    return cell


CELLS: dict[str, Callable[..., Any]] = {
    "lstm_cell": _lstm_cell,
    "gru_cell": _gru_cell,
    "rnn_tanh_cell": _rnn_cell(torch.tanh),
    "rnn_relu_cell": _rnn_cell(torch.relu),
}


def unroll(program: ExportedProgram) -> ExportedProgram:
    """The program with its recurrent layers and cells as the ops of their steps; itself where it has none.

    Raises:
        TraceError: where the number of steps is not fixed.
    """
    table: dict[Any, Callable[..., Any]] = {}
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            name = node.target._schema.name.split("::")[1]
            if name in LAYERS:
                table[node.target] = decomposition_table[node.target]
            elif name in CELLS:
                table[node.target] = CELLS[name]
    if not table:
        return program
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unrolled: ExportedProgram = program.run_decompositions(table)
            return unrolled
    except Exception as error:
        names = ", ".join(sorted(str(each) for each in table))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TraceError(
            f"{names} cannot be written as the ops of its steps, whose number has to be fixed: {reason}"
        ) from error
