"""The Hessian of the loss by the weights: rows, Hessian-vector products, and the full matrix for small networks."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.data.calibration import Batch, count
from deadhead.data.opened import opened
from deadhead.errors import DataError, LossError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.graph.pytree import take
from deadhead.progress import Progress, track
from deadhead.scores.second_order.derivatives import TwiceDifferentiable, filled, refuse_once_differentiable, twice

DENSE_UP_TO = 4_000
"""The maximum number of weights whose full Hessian is computed: 4,000 take 128 MB."""


@dataclass(frozen=True)
class Weights:
    """The weights that are scored together.

    Attributes:
        gates: the network with its loss; its state holds the leaves.
        leaves: the weights by name, on the model's device.
        batches: the samples that L is the mean over.
        progress: called with (step, done, total).
    """

    gates: TwiceDifferentiable
    leaves: Mapping[str, Tensor]
    batches: Sequence[Batch]
    progress: Progress | None = None

    @property
    def samples(self) -> int:
        return count(self.batches)

    @property
    def total(self) -> int:
        return sum(leaf.numel() for leaf in self.leaves.values())

    def gradients(self, batch: Batch, twice: bool = False) -> list[Tensor]:
        """`d(sum_n L_n)/dw` over a batch, one tensor for each leaf; `twice` keeps what differentiates it again."""
        leaves = list(self.leaves.values())
        with torch.enable_grad():
            losses = self.gates.loss({}, batch)
            if not losses.requires_grad:
                self._refuse_constant_loss(batch)
                return [torch.zeros_like(leaf) for leaf in leaves]
            found = torch.autograd.grad(losses.sum(), leaves, create_graph=twice, allow_unused=True)
        if twice:
            refuse_once_differentiable(found)
        return filled(found, leaves)

    def _refuse_constant_loss(self, batch: Batch) -> None:
        """Weights that the loss does not depend on have zero derivatives; a loss cut off from the outputs has none."""
        batch = batch.to(self.gates.network.device())
        tensors, structure = take(self.gates.outputs({}, batch))
        with torch.enable_grad():
            outputs = [t.detach().requires_grad_() if t.is_floating_point() else t for t in tensors]
            losses = self.gates.loss_function.per_sample(structure.fill(outputs), batch)
        if not losses.requires_grad:
            raise LossError(
                f"The loss {self.gates.loss_function.name} has no derivative by the model's outputs (detached, or made "
                "of whole numbers); give one that has, or choose loss_change or magnitude."
            )


def _leaves(network: Network, patterns: str | Sequence[str] | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights to score as leaves of their own by name, tied ones once, and a state that holds them."""
    # Tensors made in inference mode cannot be differentiated by; copies of them can.
    state = {name: held.clone() if held.is_inference() else held for name, held in network.frozen_state().items()}
    names: dict[int, list[str]] = {}
    for name, parameter in network.module.named_parameters(remove_duplicate=False):
        if parameter.is_floating_point():
            names.setdefault(id(parameter), []).append(name)
    wanted = [patterns] if isinstance(patterns, str) else ["*"] if patterns is None else list(patterns)
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(name, pattern) for tied in names.values() for name in tied):
            known = [tied[0] for tied in names.values()]
            some = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
            raise DataError(
                f"The pattern {pattern!r} matches no floating-point parameter of {type(network.module).__name__}; the "
                f"parameters are: {some or 'none'}."
            )
    leaves: dict[str, Tensor] = {}
    for tied in names.values():
        if any(fnmatch.fnmatchcase(name, pattern) for name in tied for pattern in wanted):
            leaves[tied[0]] = state[tied[0]].requires_grad_()  # of the detached tensor: the user's own is not changed
            state.update(dict.fromkeys(tied, leaves[tied[0]]))
    if not leaves:
        raise DataError("parameters=() names no parameter to score; give patterns, or None for all.")
    return leaves, state


def weights_to_score(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    loss: Any,
    parameters: str | Sequence[str] | None,
    samples: int,
    progress: Progress | None,
) -> Weights:
    """The weights whose names match patterns, with the network, loss and data that score them.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        parameters: patterns of parameter names; all floating-point parameters where it is None.
        samples: at most so many samples of the data are read.
        progress: called with (step, done, total).

    Raises:
        DataError: where a pattern matches no floating-point parameter.
    """
    loss_function, batches, network = opened(model_or_network, data, loss, samples)
    leaves, state = _leaves(network, parameters)
    return Weights(TwiceDifferentiable(PrunedState(network, tensors=state), loss_function), leaves, batches, progress)


def as_float64(tensor: Tensor) -> Tensor:
    """A tensor detached, in float64 on the CPU."""
    return tensor.detach().cpu().double().contiguous()


def product_with(
    gradients: Sequence[Tensor], vectors: Sequence[Tensor], leaves: Sequence[Tensor], into: Sequence[Tensor]
) -> list[Tensor]:
    """Hessian-vector product: the rows of `H v` that belong to the leaves `into`.

    Args:
        gradients: the first derivatives that are differentiated again.
        vectors: v, of the shapes of the gradients.
        leaves: the weights of the gradients.
        into: the weights whose rows are returned.

    Returns:
        One tensor for each of `into`, of its shape.
    """
    pairs = [(gradient, vector) for gradient, vector in zip(gradients, vectors, strict=True) if gradient.requires_grad]
    if not pairs:
        return [torch.zeros_like(leaf) for leaf in into]
    outputs, weights = zip(*pairs, strict=True)
    return filled(torch.autograd.grad(outputs, into, weights, retain_graph=True, allow_unused=True), into)


def rows_of_hessian(weights: Weights, step: str, own: bool) -> Iterator[tuple[int, int, list[Tensor]]]:
    """The rows of the Hessian of a batch's summed loss, one by one.

    Args:
        weights: the weights, network, loss and data.
        step: what progress is called with.
        own: restrict the row to the weight's own parameter.

    Returns:
        (place of the leaf, weight in it, its row as one tensor for each leaf), for every batch and weight.
    """
    leaves = list(weights.leaves.values())
    jobs = (
        (batch, place, index)
        for batch in weights.batches
        for place, leaf in enumerate(leaves)
        for index in range(leaf.numel())
    )
    gradients: list[Tensor] = []
    last = None
    for batch, place, index in track(weights.progress, step, jobs, weights.total * len(weights.batches)):
        into = [leaves[place]] if own else leaves
        with twice():
            if batch is not last:
                gradients, last = weights.gradients(batch, twice=True), batch
            one = torch.zeros_like(leaves[place], memory_format=torch.contiguous_format)
            one.view(-1)[index] = 1
            row = product_with([gradients[place]], [one], leaves, into)
        yield place, index, row


@torch.inference_mode(False)
def full_hessian(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    parameters: str | Sequence[str] | None = None,
    samples: int = 4096,
    progress: Progress | None = None,
) -> tuple[list[str], Tensor]:
    """Compute the full Hessian matrix of the mean loss by the weights, `H_ij = d2L / dw_i dw_j`, for up to 4,000
    weights.

    A backward pass for each weight and batch. Derivatives are those of the traced graph, as in `score_parameters`.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches, `(inputs, targets)` or the dicts that the model takes.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        parameters: patterns of parameter names; all floating-point parameters by default.
        samples: at most so many samples of the data are read.
        progress: called with (step, done, total).

    Returns:
        (names, matrix): the matrix has shape (n, n), float64 on the CPU, symmetric; its rows and columns are the
        weights of the parameters `names`, in that order, each flattened as by `Tensor.flatten`. Tied parameters appear
        once, under their first name.

    Raises:
        DataError, LossError, TraceError: for more weights, or where the loss cannot be differentiated twice.

    Source:
        Evci (2018), section 2.1 and appendix A (`pytorchpruner.utils`).

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> x, t = torch.randn(8, 2), torch.randn(8, 1)
        >>> names, matrix = full_hessian(model, [(x, t)], loss="squared_error")
        >>> names, torch.allclose(matrix, (x.T @ x / 8).double(), atol=1e-5)
        (['weight'], True)
    """
    weights = weights_to_score(model_or_network, data, loss, parameters, samples, progress)
    if weights.total > DENSE_UP_TO:
        raise DataError(
            f"The full Hessian of {weights.total:,} weights is too large, {DENSE_UP_TO:,} is the limit; choose fewer "
            "by parameters=, or score_parameters with taylor2, which needs only its products."
        )
    starts = [0]
    for leaf in weights.leaves.values():
        starts.append(starts[-1] + leaf.numel())
    matrix = torch.zeros(weights.total, weights.total, dtype=torch.float64)
    for place, index, row in rows_of_hessian(weights, "full_hessian", own=False):
        matrix[starts[place] + index] += torch.cat([as_float64(part).flatten() for part in row]) / weights.samples
    if not torch.isfinite(matrix).all():
        raise DataError("The Hessian is not finite; check the weights and the data.")
    return list(weights.leaves), (matrix + matrix.T) / 2
