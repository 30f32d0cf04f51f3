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
    """What runs backward along an edge of the graph, and in which form.

    Args:
        tensor: in the shape of the value a that runs forward.
        form: "Q" for a multiplier, which stands for the relevance `(a - r) Q`, where r is zero or a under the baseline;
            "R" for relevance itself, or a gradient where a composite propagates those.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Simplifying the LRP".

    >>> Signal(torch.ones(2), "Q").like(torch.zeros(2))
    Signal(tensor=tensor([0., 0.]), form='Q')
    """

    tensor: Tensor
    form: Form

    def like(self, tensor: Tensor) -> Signal:
        """Another tensor in the same form."""
        return Signal(tensor, self.form)


def times(a: Tensor, q: Tensor) -> Tensor:
    """The product `a q`, zero wherever q is: a masked position has a = -inf and no relevance.

    Of complex values, the real product `Re(conj(a) q)` of which autograd's derivatives are made.

    >>> times(torch.tensor([2.0, -torch.inf]), torch.tensor([3.0, 0.0]))
    tensor([6., 0.])
    """
    if a.is_complex():
        return torch.view_as_real(a * torch.ones_like(q)).mul(torch.view_as_real(q)).sum(-1)
    made = a * q
    if all_finite(made):
        return made
    none = q == 0
    return torch.where(none, torch.zeros_like(q), torch.where(none, torch.zeros_like(a), a) * q)


def difference(a: Tensor, r: Tensor) -> Tensor:
    """The difference `a - r`, zero where both are the same infinity.

    >>> difference(torch.tensor([3.0, -torch.inf]), torch.tensor([1.0, -torch.inf]))
    tensor([2., 0.])
    """
    made = a - r
    if all_finite(made):
        return made
    same = (a == r) & a.isinf()
    return torch.where(same, torch.zeros_like(a), a) - torch.where(same, torch.zeros_like(r), r)


def quotient(above: Tensor, below: Tensor) -> Tensor:
    """The quotient `above / below`, zero wherever `below` is; gradients stay finite there.

    >>> quotient(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0.5000, 0.0000])
    """
    return quotient_and_zeros(above, below)[0]


def quotient_and_zeros(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor | None]:
    """The quotient as `quotient` gives it, and where `below` is zero: None for nowhere.

    >>> quotient_and_zeros(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0]))
    (tensor([0.5000, 0.0000]), tensor([False,  True]))
    """
    made = above / below
    if all_finite(made):
        return made, None
    none = below == 0
    return torch.where(none, torch.zeros_like(below), above / torch.where(none, torch.ones_like(below), below)), none


def divided(above: Tensor, below: Tensor) -> Tensor:
    """The quotient `above / below`, in the memory of `below` where nothing is to be differentiated.

    >>> divided(torch.tensor([1.0]), torch.tensor([2.0]))
    tensor([0.5000])
    """
    fits = not torch.is_grad_enabled() and above.dtype == below.dtype
    return torch.div(above, below, out=below) if fits else above / below


def times_over(a: Tensor, q: Tensor, below: Tensor) -> tuple[Tensor, Tensor | None]:
    """The product over a denominator, `a q / below`, and where `below` is zero and so the result: None for nowhere.

    >>> times_over(torch.tensor([3.0]), torch.tensor([2.0]), torch.tensor([4.0]))
    (tensor([1.5000]), None)
    """
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
    """Whether no entry is infinite or NaN: a sum tells, and costs a fraction of a mask.

    >>> all_finite(torch.ones(3)), all_finite(torch.tensor([1.0, torch.nan]))
    (True, False)
    """
    return cmath.isfinite(value.detach().sum().item())
