"""What an edge carries: relevance R, or Q with R = (a - r) Q, and how one becomes the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Form = Literal["Q", "R"]


@dataclass(frozen=True)
class Signal:
    """What runs backward along an edge, in the shape of the value a that runs forward, and in which form.

    Form "Q" stands for the relevance `(a - r) Q`, r being zero or what a is for the baseline; form "R" is relevance
    itself, or a gradient where a composite propagates those.
    """

    tensor: Tensor
    form: Form

    def like(self, tensor: Tensor) -> Signal:
        """Another tensor in the same form."""
        return Signal(tensor, self.form)


def times(a: Tensor, q: Tensor) -> Tensor:
    """`a q`, zero wherever q is: a masked position has a = -inf and no relevance. Of complex values, the real product
    `Re(conj(a) q)` of which autograd's derivatives are made."""
    if a.is_complex():
        return torch.view_as_real(a * torch.ones_like(q)).mul(torch.view_as_real(q)).sum(-1)
    if _any_infinite(a):
        none = q == 0
        return torch.where(none, torch.zeros_like(q), torch.where(none, torch.zeros_like(a), a) * q)
    return a * q


def _any_infinite(value: Tensor) -> bool:
    """Whether an entry is infinite; by two reductions, which cost less than a mask."""
    if not value.numel() or not value.is_floating_point():
        return False
    least, largest = torch.aminmax(value.detach())
    return bool(least.isinf() | largest.isinf())


def difference(a: Tensor, r: Tensor) -> Tensor:
    """`a - r`, zero where both are the same infinity."""
    if not _any_infinite(a):
        return a - r
    same = (a == r) & a.isinf()
    return torch.where(same, torch.zeros_like(a), a) - torch.where(same, torch.zeros_like(r), r)


def quotient(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, zero wherever `below` is; gradients stay finite there.

    >>> quotient(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0.5000, 0.0000])
    """
    none = below == 0
    return torch.where(none, torch.zeros_like(below), above / torch.where(none, torch.ones_like(below), below))


def fraction(value: Tensor, epsilon: float) -> Tensor:
    """`|value| / (|value| + epsilon)`: what is left of relevance divided by `value + epsilon sign(value)`."""
    size = value.abs()
    return size / (size + epsilon)
