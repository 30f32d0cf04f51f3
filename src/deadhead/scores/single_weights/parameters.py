"""Saliencies of single weights: the change of the loss when each weight is changed by dw, and estimates of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.errors import DataError
from deadhead.graph.network import Network
from deadhead.progress import Progress, track
from deadhead.scores.second_order.derivatives import twice
from deadhead.scores.single_weights.alone import Alone, Place, losses_with, places_of
from deadhead.scores.single_weights.hessian import Weights, as_float64, product_with, rows_of_hessian, weights_to_score

CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "removal": lambda weight, epsilon: -weight,
    "scaled": lambda weight, epsilon: -epsilon * weight,
    "sensitivity": lambda weight, epsilon: -epsilon * weight.sign(),
}
"""dw for each way to change a weight."""

ROW_SUMS = ("all", "tensor")

EXACT_UP_TO = 20_000
"""The maximum number of weights whose exact Hessian diagonal is computed: each takes a pass of its own."""


@dataclass(frozen=True)
class WeightQuestion:
    """What a criterion of weights answers.

    Attributes:
        weights: the weights, network, loss and data.
        changes: dw by parameter name, of its shape, float64 on the CPU.
        lam: the factor of the second-order term of `taylor2`.
        row_sum: over which weights the Hessian's rows are summed, "all" or "tensor".
        probes: the number of random signs of `hessian_estimate`.
        seed: of whatever is drawn at random.
    """

    weights: Weights
    changes: Mapping[str, Tensor]
    lam: float
    row_sum: str
    probes: int
    seed: int

    def zeros(self) -> dict[str, Tensor]:
        return {name: torch.zeros_like(change) for name, change in self.changes.items()}


Scores = dict[str, Tensor]


def taylor1(question: WeightQuestion) -> Scores:
    """First-order Taylor expansion for single weights: `dw_i dL/dw_i`.

    Source: Evci (2018), table 2.1, taylor1Scorer.
    """
    found = question.zeros()
    for batch in track(question.weights.progress, "taylor1", question.weights.batches):
        for name, gradient in zip(found, question.weights.gradients(batch), strict=True):
            found[name] += question.changes[name] * as_float64(gradient) / question.weights.samples
    return found


def _first_and_row_sum(question: WeightQuestion, step: str) -> tuple[Scores, Scores]:
    """`dw_i dL/dw_i` and `dw_i sum_j H_ij dw_j`, from one forward and two backward passes over each batch."""
    first, second = question.zeros(), question.zeros()
    leaves = list(question.weights.leaves.values())
    vectors = [question.changes[name].to(leaf) for name, leaf in question.weights.leaves.items()]
    for batch in track(question.weights.progress, step, question.weights.batches):
        with twice():
            gradients = question.weights.gradients(batch, twice=True)
            if question.row_sum == "all":
                products = product_with(gradients, vectors, leaves, leaves)
            else:
                products = [
                    product_with([gradient], [vector], leaves, [leaf])[0]
                    for gradient, vector, leaf in zip(gradients, vectors, leaves, strict=True)
                ]
        for name, gradient, product in zip(first, gradients, products, strict=True):
            first[name] += question.changes[name] * as_float64(gradient) / question.weights.samples
            second[name] += question.changes[name] * as_float64(product) / question.weights.samples
    return first, second


def taylor2(question: WeightQuestion) -> Scores:
    """Second-order Taylor expansion for single weights: `dw_i (dL/dw_i + lam sum_j H_ij dw_j)`, by one Hessian-vector
    product.

    Source: Evci (2018), table 2.1, taylor2Scorer, whose lambda is 1.
    """
    first, second = _first_and_row_sum(question, "taylor2")
    return {name: first[name] + question.lam * second[name] for name in first}


def hessian_row(question: WeightQuestion) -> Scores:
    """Hessian row sum, the second-order term of `taylor2` alone: `dw_i sum_j H_ij dw_j`.

    Source: Evci (2018), table 2.1, hessianScorer.
    """
    return _first_and_row_sum(question, "hessian_row")[1]


def hessian(question: WeightQuestion) -> Scores:
    """Optimal brain damage (OBD): `1/2 dw_i^2 H_ii` with the exact diagonal of the Hessian.

    It takes a Hessian-vector product for each weight.

    Raises:
        DataError: for more than 20,000 weights.

    Source: LeCun et al. (1990); Evci (2018), eq. 2.2, with its missing 1/2.
    """
    if question.weights.total > EXACT_UP_TO:
        raise DataError(
            f"hessian takes a pass for each of {question.weights.total:,} weights, and {EXACT_UP_TO:,} is its limit; "
            "choose fewer by parameters=, or the criterion hessian_estimate, Hutchinson's estimate."
        )
    diagonal = question.zeros()
    names = list(diagonal)
    for place, index, (row,) in rows_of_hessian(question.weights, "hessian", own=True):
        diagonal[names[place]].view(-1)[index] += row.reshape(-1)[index].item() / question.weights.samples
    return {name: 0.5 * question.changes[name].square() * diagonal[name] for name in names}


def hessian_estimate(question: WeightQuestion) -> Scores:
    """Optimal brain damage (OBD) with Hutchinson's estimate of the Hessian diagonal: `1/2 dw_i^2 D_i`.

    D is the mean of `v * (H v)` over random signs v, the same for all batches. Its expectation is `H_ii`, its variance
    `sum_{j != i} H_ij^2 / probes`.

    Source: Bekas et al. (2007), for LeCun et al. (1990).
    """
    diagonal = question.zeros()
    leaves = list(question.weights.leaves.values())
    jobs = ((batch, probe) for batch in question.weights.batches for probe in range(question.probes))
    generator, gradients = torch.Generator(), list[Tensor]()
    for batch, probe in track(
        question.weights.progress, "hessian_estimate", jobs, len(question.weights.batches) * question.probes
    ):
        with twice():
            if probe == 0:
                generator.manual_seed(question.seed)
                gradients = question.weights.gradients(batch, twice=True)
            signs = [2 * torch.randint(2, leaf.shape, generator=generator).to(leaf) - 1 for leaf in leaves]
            products = product_with(gradients, signs, leaves, leaves)
        for name, sign, product in zip(diagonal, signs, products, strict=True):
            diagonal[name] += as_float64(sign * product) / (question.weights.samples * question.probes)
    return {name: 0.5 * question.changes[name].square() * diagonal[name] for name in diagonal}


def magnitude(question: WeightQuestion) -> Scores:
    """Weight magnitude: `|w_i|`, however the weight is changed.

    Source: Evci (2018), table 2.1, magnitudeScorer.
    """
    return {name: as_float64(leaf).abs() for name, leaf in question.weights.leaves.items()}


def loss_change(question: WeightQuestion) -> Scores:
    """Oracle (ablation) for single weights: the exact change of the loss `L(w + dw_i) - L(w)`, each weight changed
    alone.

    Weights of linear layers and convolutions share the pass before them, and run in batches behind them; others take a
    pass each. One that its change leaves as it is scores zero.

    Source: Evci (2018), section 2.1, lossChangeScorer.
    """
    found = question.zeros()
    total = len(question.weights.batches) * sum(int((change != 0).sum()) for change in question.changes.values())
    with torch.no_grad():
        for name, index, change in track(question.weights.progress, "loss_change", _changed_alone(question), total):
            found[name].view(-1)[index] += change / question.weights.samples
    return found


def _changed_alone(question: WeightQuestion) -> Iterator[tuple[str, int, float]]:
    """The summed change of a batch's losses for every batch and weight, with the weight's parameter and index there."""
    weights, gates, places = question.weights, question.weights.gates, dict[int, Mapping[str, Place]]()
    names = {
        name: [key for key, tensor in gates.state.items() if tensor is leaf] for name, leaf in weights.leaves.items()
    }
    for batch in weights.batches:
        graph = id(gates.traced(batch)[1])
        if graph not in places:
            places[graph] = places_of(gates, names, batch)
        alone = Alone(gates, batch, places[graph])
        for name, change in question.changes.items():
            if name in alone.places:
                for indices, changes in alone.changes(name, change):
                    yield from ((name, *pair) for pair in zip(indices.tolist(), changes.tolist(), strict=True))
                continue
            for index in change.flatten().nonzero()[:, 0].tolist():
                changed = weights.leaves[name].detach().clone(memory_format=torch.contiguous_format)
                held = changed.view(-1)[index].double() + change.view(-1)[index].to(changed.device)
                changed.view(-1)[index] = held.to(changed.dtype)
                losses = losses_with(gates, names[name], changed, batch)
                yield name, index, (losses.double() - alone.intact).sum().item()


def random(question: WeightQuestion) -> Scores:
    """Random scores, which every criterion has to beat: uniform in [0, 1), drawn by the seed.

    Source: Evci (2018), section 2.1, randomScorer.
    """
    generator = torch.Generator().manual_seed(question.seed)
    return {
        name: torch.rand(change.shape, generator=generator, dtype=torch.float64)
        for name, change in question.changes.items()
    }


PARAMETER_CRITERIA: dict[str, Callable[[WeightQuestion], Scores]] = {
    each.__name__: each
    for each in (taylor1, taylor2, hessian_row, hessian, hessian_estimate, magnitude, loss_change, random)
}


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
        raise DataError(f'epsilon={epsilon} has no effect on removal, where dw = -w; ask for change="scaled".')
    if not math.isfinite(lam):
        raise DataError(f"lam={lam} must be a finite number: 1/2, or 1 as in Evci (2018), table 2.1.")
    if probes < 1:
        raise DataError(f"probes={probes} must be at least 1.")


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
    """Score every single weight by a criterion (unstructured saliencies).

    L is the mean loss over the samples, H its second derivatives, dw the change of a weight. The criteria:

    - `taylor1`: first-order Taylor expansion, `dw_i dL/dw_i`
    - `taylor2`: second-order Taylor expansion, `dw_i dL/dw_i + lam dw_i sum_j H_ij dw_j`, by one Hessian-vector
      product. With lam = 1/2 and row_sum="all" the scores sum to the second-order change of L when all are changed.
      The source's table has lam = 1, and for sensitivity dw = -sign(w), lam = epsilon: this with lam = 1, divided by
      epsilon.
    - `hessian_row`: `dw_i sum_j H_ij dw_j` alone, with the same `row_sum`: the source's hessianScorer
    - `hessian`: optimal brain damage (OBD), `1/2 dw_i^2 H_ii`, exact, a pass for each weight, up to 20,000 weights
    - `hessian_estimate`: the same by Hutchinson's estimate of the diagonal, from `probes` random signs
    - `magnitude`: `|w_i|`
    - `loss_change`: the oracle, `L(w + dw_i) - L(w)`, each weight changed alone
    - `random`: uniform in [0, 1), by `seed`

    All but `magnitude` and `random` are signed, in the unit of the loss. Derivatives are those of the traced graph: a
    `detach` in forward is not in it; kinks (ReLU) count with zero second derivative. `loss="model"` counts a batch's
    loss once for each of its samples.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches, `(inputs, targets)` or the dicts that the model takes.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        criterion: its name.
        change: dw: "removal": -w; "scaled": -epsilon w; "sensitivity": -epsilon sign(w).
        epsilon: the size of the change; 1 for removal.
        parameters: patterns of parameter names; all floating-point parameters by default.
        absolute: take absolute values of the scores.
        lam: the factor of the second-order term of taylor2.
        row_sum: "all": j runs over all weights that are scored together; "tensor": over the weight's own parameter.
        probes: the number of random signs of hessian_estimate.
        samples: at most so many samples of the data are read.
        seed: of whatever a criterion draws at random.
        progress: called with (step, done, total).

    Returns:
        {parameter name: tensor of the parameter's shape}, float64 on the CPU. Tied parameters appear once, under their
        first name, and change together.

    Raises:
        DataError, LossError, TraceError: where the criterion cannot be computed.

    Source:
        Evci (2018), section 2.1, equations 2.1-2.3 (which print `dw = w` for -w and lack the 1/2) and table 2.1.

    Example:
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
    weights = weights_to_score(model_or_network, data, loss, parameters, samples, progress)
    changes = {name: CHANGES[change](as_float64(leaf), epsilon) for name, leaf in weights.leaves.items()}
    found = PARAMETER_CRITERIA[criterion](WeightQuestion(weights, changes, lam, row_sum, probes, seed))
    for name, saliency in found.items():
        if not torch.isfinite(saliency).all():
            raise DataError(f"The criterion {criterion} is not finite for {name}; check the weights and the data.")
    return {name: saliency.abs() if absolute else saliency for name, saliency in found.items()}
