"""What runs backward along an edge of the graph: relevance R, or its multiplier Q with R = (a - r) Q."""

from __future__ import annotations

import cmath
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
    made = a * q
    if all_finite(made):
        return made
    none = q == 0
    return torch.where(none, torch.zeros_like(q), torch.where(none, torch.zeros_like(a), a) * q)


def difference(a: Tensor, r: Tensor) -> Tensor:
    """`a - r`, zero where both are the same infinity."""
    made = a - r
    if all_finite(made):
        return made
    same = (a == r) & a.isinf()
    return torch.where(same, torch.zeros_like(a), a) - torch.where(same, torch.zeros_like(r), r)


def quotient(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, zero wherever `below` is; gradients stay finite there.

    >>> quotient(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0.5000, 0.0000])
    """
    return quotient_and_zeros(above, below)[0]


def quotient_and_zeros(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor | None]:
    """The same, and where `below` is zero: None for nowhere."""
    made = above / below
    if all_finite(made):
        return made, None
    none = below == 0
    return torch.where(none, torch.zeros_like(below), above / torch.where(none, torch.ones_like(below), below)), none


def divided(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, in the memory of `below` where nothing is to be differentiated."""
    fits = not torch.is_grad_enabled() and above.dtype == below.dtype
    return torch.div(above, below, out=below) if fits else above / below


def times_over(a: Tensor, q: Tensor, below: Tensor) -> tuple[Tensor, Tensor | None]:
    """`a q / below`, and where `below` is zero and so the result: None for nowhere."""
    if a.is_complex():
        return quotient_and_zeros(times(a, q), below)
    made = a * q
    made = made / below if torch.is_grad_enabled() else made.div_(below)  # memory at hand is cheaper than new memory
    if all_finite(made):
        return made, None
    if not torch.is_grad_enabled():
        none = below == 0
        made.masked_fill_(none, 0.0)
        if all_finite(made):
            return made, none
    return quotient_and_zeros(times(a, q), below)


def all_finite(value: Tensor) -> bool:
    """Whether nothing is infinite or no number; a sum tells, and costs a fraction of a mask."""
    return cmath.isfinite(value.detach().sum().item())
