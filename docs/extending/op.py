"""An op of another package: a soft threshold, its facts in the catalogue and how labels move through it."""

import torch
from torch import Tensor, nn

from deadhead.graph.catalogue import Op, add_op
from deadhead.graph.units.registry import rule
from deadhead.graph.units.rules.elementwise import pointwise


@torch.library.custom_op("garden::soft", mutates_args=())
def soft(x: Tensor, edge: float) -> Tensor:
    """`sign(x) max(|x| - edge, 0)`."""
    return x.sign() * (x.abs() - edge).clamp(min=0)


@soft.register_fake
def _(x: Tensor, edge: float) -> Tensor:
    return torch.empty_like(x)


soft.register_autograd(
    lambda ctx, gradient: (gradient * ctx.saved_tensors[0], None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward((output != 0).to(output)),
)

# An elementwise function of one value, whose slope is at most 1; derivatives go back through it entry by entry.
add_op(Op("garden::soft", "nonlinearity", relevance="nonlinearity", diagonal="pointwise", lipschitz=1.0))
rule("garden::soft")(pointwise)  # labels of aligned axes are merged


class Soft(nn.Module):
    """A network that uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(soft(self.first(x), 0.1))
