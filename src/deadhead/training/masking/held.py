"""Entries of one tensor that are held at zero, exactly and at little cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deadhead.errors import MaskError
from deadhead.gates.sites import along

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integers of so many bytes."""


def bits_of(tensor: Tensor, closed: Tensor, lines: dict[int, Tensor] | None) -> list[Tensor]:
    """Masks of bits that close entries of a tensor, as `Held.bits`; none for a type of which no integers are as wide.

    Args:
        tensor: the tensor.
        closed: which of its entries are closed.
        lines: {axis: indices}, where these lines together are what is closed.
    """
    if tensor.is_complex() or tensor.itemsize not in INTEGERS:
        return []
    kind = INTEGERS[tensor.itemsize]
    if lines is None:
        return [(~closed).to(kind).neg_()]
    found = []
    for axis, index in lines.items():
        kept = torch.full((tensor.shape[axis],), -1, dtype=kind, device=tensor.device).index_fill_(0, index, 0)
        found.append(along(kept, tensor.dim(), axis))
    return found


def lines_of(entries: Tensor, state: Tensor) -> Tensor:
    """Which entries of a state tensor belong to closed entries alone: with one number for each line of the parameter,
    where the whole line is closed.

    Args:
        entries: which entries of the parameter are closed.
        state: a state tensor of its shape, or of size one along some of its axes.
    """
    for axis, size in enumerate(state.shape):
        if size < entries.shape[axis]:
            entries = entries.all(axis, keepdim=True)
    return entries


def axes_of(state: Tensor, entries: Tensor, axes: Mapping[int, list[int]]) -> Mapping[int, list[int]]:
    """What is kept of the axes along which a state tensor is as long as its parameter."""
    return {axis: kept for axis, kept in axes.items() if state.shape[axis] == entries.shape[axis]}


@dataclass
class Held:
    """A parameter or buffer some of whose entries are held at zero.

    Attributes:
        name: its name in the module.
        tensor: the module's own.
        closed: which of its entries are held, bool of its shape.
        bits: integers of the tensor's width, all bits set where an entry is kept and none where it is closed, shaped
            to be broadcast: a logical and with each of them closes what is closed. It is exact whatever an entry holds,
            and vectorised, where filling is not.
        had: what the entries of closed units were before, in the tensor's shape.
        spared: entries of closed units that are held at what they had instead, because zero would leave a weight
            undefined; None where there are none.
        state: {key: the same of each tensor of the optimizer's state}.
        masked: whether its gradient was masked since the last step.
        version: how often the tensor had been written to when its entries were last known to be zero.
    """

    UNDISTURBED = True
    name: str
    tensor: Tensor
    closed: Tensor
    bits: list[Tensor]
    had: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)
    spared: Tensor | None = None
    masked: bool = False
    version: int = -1

    def __post_init__(self) -> None:
        *self._path, self._leaf = self.name.split(".")

    def is_in(self, module: nn.Module) -> bool:
        """Whether the module has this tensor at its name. It is asked at every step, so that nothing is parsed."""
        for name in self._path:
            inner = module._modules.get(name)
            if inner is None:
                return False
            module = inner
        return module._parameters.get(self._leaf) is self.tensor or module._buffers.get(self._leaf) is self.tensor

    @property
    def owned(self) -> Tensor:
        """All entries that are held, at zero or at what they had."""
        return self.closed if self.spared is None else self.closed | self.spared

    @torch.no_grad()
    def zero(self, value: Tensor) -> None:
        """Set the closed entries of a tensor of this shape to zero, in place."""
        if not self.bits:
            value.masked_fill_(self.closed, 0)
            return
        bits = value.view(self.bits[0].dtype)
        for each in self.bits:
            bits.bitwise_and_(each)

    def hold(self) -> None:
        """Set the closed entries of the tensor itself to zero, and spared ones to what they had."""
        tensor = self.tensor.detach()
        self.zero(tensor)
        if self.spared is not None:
            tensor.copy_(torch.where(self.spared, self.had, tensor))
        self.version = self.tensor._version

    def mask_gradient(self) -> None:
        """Set the gradient to zero where entries are held."""
        gradient = self.tensor.grad
        if gradient is not None and not gradient.is_sparse:
            self.zero(gradient)
            if self.spared is not None:
                gradient.masked_fill_(self.spared, 0)

    def check(self) -> None:
        """Raise `MaskError` where a closed entry is no longer zero."""
        if self.tensor._version != self.version and bool(self.tensor.detach()[self.closed].any()):
            raise MaskError(
                f"Closed entries of {self.name} are not zero any more: something other than the optimizers of these "
                "masks wrote to it (another optimizer, load_state_dict, an average of weights); give the masks every "
                "optimizer that trains the model, or load their state_dict beside that of the model."
            )
        self.version = self.tensor._version
