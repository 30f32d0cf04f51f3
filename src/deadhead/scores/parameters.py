"""Saliencies of single weights: the change of the loss when each weight is changed by dw, and estimates of it."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.calibration import Batch, count, read
from deadhead.errors import DataError, LossError
from deadhead.graph.containers import take
from deadhead.graph.network import Network
from deadhead.losses import Loss, as_loss
from deadhead.progress import Progress, track
from deadhead.scores.criterion import as_network
from deadhead.scores.derivatives import TwiceDifferentiable, filled, refuse_dead_ends, twice

CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "removal": lambda weight, epsilon: -weight,
    "scaled": lambda weight, epsilon: -epsilon * weight,
    "sensitivity": lambda weight, epsilon: -epsilon * weight.sign(),
}
"""dw for each way to change a weight."""

ROW_SUMS = ("all", "tensor")

EXACT_UP_TO = 20_000
"""The most weights whose exact Hessian diagonal is computed: each takes a pass of its own."""

DENSE_UP_TO = 4_000
"""The most weights whose full Hessian is computed: 4,000 take 128 MB."""


@dataclass(frozen=True)
class Weights:
    """The weights that are scored together: `leaves` by name, on the model's device, in a state that `gates` replays;
    `batches` are the rows that L is the mean over."""

    gates: TwiceDifferentiable
    leaves: Mapping[str, Tensor]
    batches: Sequence[Batch]
    progress: Progress | None = None

    @property
    def rows(self) -> int:
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
            refuse_dead_ends(found)
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


@dataclass(frozen=True)
class Asked:
    """What a criterion of weights is asked; `changes` is dw, float64 on the CPU, by name."""

    weights: Weights
    changes: Mapping[str, Tensor]
    lam: float
    row_sum: str
    probes: int
    seed: int

    def zeros(self) -> dict[str, Tensor]:
        return {name: torch.zeros_like(change) for name, change in self.changes.items()}


Scores = dict[str, Tensor]


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double().contiguous()


def _product(
    gradients: Sequence[Tensor], vectors: Sequence[Tensor], leaves: Sequence[Tensor], into: Sequence[Tensor]
) -> list[Tensor]:
    """The rows of `H v` that belong to the leaves `into`, H the second derivatives whose `gradients` these are."""
    pairs = [(gradient, vector) for gradient, vector in zip(gradients, vectors, strict=True) if gradient.requires_grad]
    if not pairs:
        return [torch.zeros_like(leaf) for leaf in into]
    outputs, weights = zip(*pairs, strict=True)
    return filled(torch.autograd.grad(outputs, into, weights, retain_graph=True, allow_unused=True), into)


def _rows(weights: Weights, step: str, own: bool) -> Iterator[tuple[int, int, list[Tensor]]]:
    """(place of the leaf, weight in it, its row of H for a batch's summed loss), for every weight and batch.

    The row is over all leaves, or with `own` over the weight's leaf alone.
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
            row = _product([gradients[place]], [one], leaves, into)
        yield place, index, row


def taylor1(asked: Asked) -> Scores:
    """`dw_i dL/dw_i`. Source: 003 table 2.1, taylor1Scorer."""
    found = asked.zeros()
    for batch in track(asked.weights.progress, "taylor1", asked.weights.batches):
        for name, gradient in zip(found, asked.weights.gradients(batch), strict=True):
            found[name] += asked.changes[name] * _wide(gradient) / asked.weights.rows
    return found


def _first_and_row_sum(asked: Asked, step: str) -> tuple[Scores, Scores]:
    """`dw_i dL/dw_i` and `dw_i sum_j H_ij dw_j`, from one forward and two backward passes over each batch."""
    first, second = asked.zeros(), asked.zeros()
    leaves = list(asked.weights.leaves.values())
    vectors = [asked.changes[name].to(leaf) for name, leaf in asked.weights.leaves.items()]
    for batch in track(asked.weights.progress, step, asked.weights.batches):
        with twice():
            gradients = asked.weights.gradients(batch, twice=True)
            if asked.row_sum == "all":
                products = _product(gradients, vectors, leaves, leaves)
            else:
                products = [
                    _product([gradient], [vector], leaves, [leaf])[0]
                    for gradient, vector, leaf in zip(gradients, vectors, leaves, strict=True)
                ]
        for name, gradient, product in zip(first, gradients, products, strict=True):
            first[name] += asked.changes[name] * _wide(gradient) / asked.weights.rows
            second[name] += asked.changes[name] * _wide(product) / asked.weights.rows
    return first, second


def taylor2(asked: Asked) -> Scores:
    """`dw_i (dL/dw_i + lam sum_j H_ij dw_j)`. Source: 003 table 2.1, taylor2Scorer, whose lambda is 1."""
    first, second = _first_and_row_sum(asked, "taylor2")
    return {name: first[name] + asked.lam * second[name] for name in first}


def hessian_row(asked: Asked) -> Scores:
    """`dw_i sum_j H_ij dw_j`. Source: 003 table 2.1, hessianScorer."""
    return _first_and_row_sum(asked, "hessian_row")[1]


def hessian(asked: Asked) -> Scores:
    """`1/2 dw_i^2 H_ii`, exact: a Hessian-vector product for each weight. Source: 003 eq. 2.2, with its missing 1/2."""
    if asked.weights.total > EXACT_UP_TO:
        raise DataError(
            f"hessian takes a pass for each of {asked.weights.total:,} weights, and {EXACT_UP_TO:,} is its limit; "
            "choose fewer by parameters=, or the criterion hessian_estimate, Hutchinson's estimate."
        )
    diagonal = asked.zeros()
    names = list(diagonal)
    for place, index, (row,) in _rows(asked.weights, "hessian", own=True):
        diagonal[names[place]].view(-1)[index] += row.reshape(-1)[index].item() / asked.weights.rows
    return {name: 0.5 * asked.changes[name].square() * diagonal[name] for name in names}


def hessian_estimate(asked: Asked) -> Scores:
    """`1/2 dw_i^2 D_i`, D the mean of `v * (H v)` over random signs v, the same for all batches: Hutchinson's estimate.

    Its expectation is `H_ii`, its variance `sum_{j != i} H_ij^2 / probes`.
    """
    diagonal = asked.zeros()
    leaves = list(asked.weights.leaves.values())
    jobs = ((batch, probe) for batch in asked.weights.batches for probe in range(asked.probes))
    generator, gradients = torch.Generator(), list[Tensor]()
    for batch, probe in track(
        asked.weights.progress, "hessian_estimate", jobs, len(asked.weights.batches) * asked.probes
    ):
        with twice():
            if probe == 0:
                generator.manual_seed(asked.seed)
                gradients = asked.weights.gradients(batch, twice=True)
            signs = [2 * torch.randint(2, leaf.shape, generator=generator).to(leaf) - 1 for leaf in leaves]
            products = _product(gradients, signs, leaves, leaves)
        for name, sign, product in zip(diagonal, signs, products, strict=True):
            diagonal[name] += _wide(sign * product) / (asked.weights.rows * asked.probes)
    return {name: 0.5 * asked.changes[name].square() * diagonal[name] for name in diagonal}


def magnitude(asked: Asked) -> Scores:
    """`|w_i|`, however it is changed. Source: 003 table 2.1, magnitudeScorer."""
    return {name: _wide(leaf).abs() for name, leaf in asked.weights.leaves.items()}


def loss_change(asked: Asked) -> Scores:
    """`L(w + dw_i) - L(w)`, each weight changed alone: a forward pass each. Source: 003 section 2.1, lossChangeScorer.

    A weight that its change leaves as it is scores zero without a pass.
    """
    weights, found = asked.weights, asked.zeros()
    moving = {name: change.flatten().nonzero()[:, 0].tolist() for name, change in asked.changes.items()}
    aliases = {
        name: [key for key, tensor in weights.gates.state.items() if tensor is leaf]
        for name, leaf in weights.leaves.items()
    }
    jobs = ((batch, name, index) for batch in weights.batches for name in found for index in moving[name])
    total = len(weights.batches) * sum(len(indices) for indices in moving.values())
    intact, last = torch.zeros(0), None
    with torch.no_grad():
        for batch, name, index in track(weights.progress, "loss_change", jobs, total):
            if batch is not last:
                intact, last = weights.gates.loss({}, batch).double(), batch
            changed = weights.leaves[name].detach().clone(memory_format=torch.contiguous_format)
            held = changed.view(-1)[index].double() + asked.changes[name].view(-1)[index].to(changed.device)
            changed.view(-1)[index] = held.to(changed.dtype)
            state = {**weights.gates.state, **dict.fromkeys(aliases[name], changed)}
            gates = TwiceDifferentiable(weights.gates.network, weights.gates.loss_function, state=state)
            found[name].view(-1)[index] += (gates.loss({}, batch).double() - intact).sum().item() / weights.rows
    return found


def random(asked: Asked) -> Scores:
    """Uniform in [0, 1), by the seed. Source: 003 section 2.1, randomScorer."""
    generator = torch.Generator().manual_seed(asked.seed)
    return {
        name: torch.rand(change.shape, generator=generator, dtype=torch.float64)
        for name, change in asked.changes.items()
    }


PARAMETER_CRITERIA: dict[str, Callable[[Asked], Scores]] = {
    each.__name__: each
    for each in (taylor1, taylor2, hessian_row, hessian, hessian_estimate, magnitude, loss_change, random)
}


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
            leaves[tied[0]] = state[tied[0]].requires_grad_()  # of the detached tensor: the user's own stays as it is
            state.update(dict.fromkeys(tied, leaves[tied[0]]))
    if not leaves:
        raise DataError("parameters=() names no parameter to score; give patterns, or None for all.")
    return leaves, state


def _weights(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    loss: Loss,
    parameters: str | Sequence[str] | None,
    samples: int,
    progress: Progress | None,
) -> Weights:
    axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    batches = read(data, samples=samples, labels_to_model=loss.labels_to_model, batch_axis=axis)
    network = as_network(model_or_network, batches)
    leaves, state = _leaves(network, parameters)
    return Weights(TwiceDifferentiable(network, loss, state=state), leaves, batches, progress)


def _refuse_options(criterion: str, change: str, epsilon: float, lam: float, row_sum: str, probes: int) -> None:
    if criterion not in PARAMETER_CRITERIA:
        raise DataError(
            f"There is no criterion {criterion!r} of parameters; the criteria are {', '.join(PARAMETER_CRITERIA)}."
        )
    if change not in CHANGES:
        raise DataError(f"There is no change {change!r} of weights; the changes are {', '.join(CHANGES)}.")
    if row_sum not in ROW_SUMS:
        raise DataError(f"There is no row_sum {row_sum!r}; the Hessian's rows are summed over {' or '.join(ROW_SUMS)}.")
    if not 0 < epsilon < math.inf:
        raise DataError(f"epsilon={epsilon} must be a positive number: weights change by -epsilon times w or its sign.")
    if change == "removal" and epsilon != 1:
        raise DataError(f'epsilon={epsilon} says nothing about removal, where dw = -w; ask for change="scaled".')
    if not math.isfinite(lam):
        raise DataError(f"lam={lam} must be a finite number: 1/2, or 1 as in the document's table.")
    if probes < 1:
        raise DataError(f"probes={probes} asks for no probe; give at least 1.")


@torch.inference_mode(False)
def score_parameters(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    criterion: str = "taylor1",
    change: str = "removal",
    epsilon: float = 1.0,
    parameters: str | Sequence[str] | None = None,
    absolute: bool = False,
    lam: float = 0.5,
    row_sum: str = "all",
    probes: int = 64,
    samples: int = 4096,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """What each single weight is worth by a criterion: `{parameter name: tensor of the parameter's shape}`.

    L is the mean loss over the rows read, H its second derivatives, dw the change of a weight: -w (`removal`),
    -epsilon w (`scaled`) or -epsilon sign(w) (`sensitivity`). The criteria:

    - `taylor1`: `dw_i dL/dw_i`
    - `taylor2`: `dw_i dL/dw_i + lam dw_i sum_j H_ij dw_j`, by one Hessian-vector product; j runs over all weights that
      are scored together (`row_sum="all"`) or over the weight's own tensor (`"tensor"`). With lam = 1/2 and "all" the
      scores sum to the second-order change of L when all are changed. The document's table has lam = 1, and for
      sensitivity dw = -sign(w), lam = epsilon: this with lam = 1, divided by epsilon.
    - `hessian_row`: `dw_i sum_j H_ij dw_j` alone, with the same `row_sum`: the document's hessianScorer
    - `hessian`: `1/2 dw_i^2 H_ii`, exact, a pass for each weight, up to 20,000 weights
    - `hessian_estimate`: the same by Hutchinson's estimate of the diagonal, from `probes` random signs
    - `magnitude`: `|w_i|`
    - `loss_change`: `L(w + dw_i) - L(w)`, each weight changed alone, a forward pass each
    - `random`: uniform in [0, 1), by `seed`

    All but `magnitude` and `random` are signed, in the unit of the loss, and `absolute` takes their absolute values.
    `parameters` are patterns of names, all floating-point parameters where it is None; tied parameters appear once,
    under their first name, and change together. The scores are float64 on the CPU. Derivatives are those of the traced
    graph: a `detach` in forward is not in it; kinks (ReLU) count with zero second derivative. `loss="model"` counts a
    batch's loss once for each of its rows.

    Raises `DataError`, `LossError` or `TraceError`, and leaves the model as it was.

    Source: 003 section 2.1, equations 2.1-2.3 (which print `dw = w` for -w and lack the 1/2) and table 2.1.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> x, t = torch.randn(8, 2), torch.randn(8, 1)
    >>> found = score_parameters(model, [(x, t)], loss="squared_error", criterion="taylor2")
    >>> found["weight"].shape
    torch.Size([1, 2])
    >>> without = (t**2 / 2).mean() - ((model(x) - t) ** 2 / 2).mean()  # quadratic in w: the second order is exact
    >>> torch.allclose(found["weight"].sum(), without.double(), atol=1e-5)
    True
    """
    _refuse_options(criterion, change, epsilon, lam, row_sum, probes)
    weights = _weights(model_or_network, data, as_loss(loss), parameters, samples, progress)
    changes = {name: CHANGES[change](_wide(leaf), epsilon) for name, leaf in weights.leaves.items()}
    found = PARAMETER_CRITERIA[criterion](Asked(weights, changes, lam, row_sum, probes, seed))
    for name, saliency in found.items():
        if not torch.isfinite(saliency).all():
            raise DataError(f"The criterion {criterion} is not finite for {name}; check the weights and the data.")
    return {name: saliency.abs() if absolute else saliency for name, saliency in found.items()}


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
    """The full Hessian `H_ij = d2L / dw_i dw_j` of the mean loss L, for up to 4,000 weights: (names, matrix).

    The rows and columns of the matrix, shape (n, n), float64 on the CPU, symmetric, are the weights of the parameters
    `names`, in that order, each flattened as by `Tensor.flatten`; tied parameters appear once, under their first name.
    A backward pass for each weight and batch. Derivatives are those of the traced graph, as in `score_parameters`.

    Raises `DataError`, `LossError` or `TraceError`, and leaves the model as it was.

    Source: 003 section 2.1 and appendix A (`pytorchpruner.utils`).

    >>> model = nn.Linear(2, 1, bias=False)
    >>> x, t = torch.randn(8, 2), torch.randn(8, 1)
    >>> names, matrix = full_hessian(model, [(x, t)], loss="squared_error")
    >>> names, torch.allclose(matrix, (x.T @ x / 8).double(), atol=1e-5)
    (['weight'], True)
    """
    weights = _weights(model_or_network, data, as_loss(loss), parameters, samples, progress)
    if weights.total > DENSE_UP_TO:
        raise DataError(
            f"The full Hessian of {weights.total:,} weights is too large, {DENSE_UP_TO:,} is the limit; choose fewer "
            "by parameters=, or score_parameters with taylor2, which needs only its products."
        )
    starts = [0]
    for leaf in weights.leaves.values():
        starts.append(starts[-1] + leaf.numel())
    matrix = torch.zeros(weights.total, weights.total, dtype=torch.float64)
    for place, index, row in _rows(weights, "full_hessian", own=False):
        matrix[starts[place] + index] += torch.cat([_wide(part).flatten() for part in row]) / weights.rows
    if not torch.isfinite(matrix).all():
        raise DataError("The Hessian is not finite; check the weights and the data.")
    return list(weights.leaves), (matrix + matrix.T) / 2
