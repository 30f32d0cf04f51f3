"""Compensation at the outputs: Gauss-Newton steps of all consumers at once towards the intact network's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from deadhead.compensate.method import Problem, compensation
from deadhead.data.calibration import Batch, count
from deadhead.data.losses import prediction_of
from deadhead.errors import LossError
from deadhead.gates.gates import Gates
from deadhead.gates.state import PrunedState
from deadhead.progress import track
from deadhead.reconstruction.compensation import Compensation, put_constant
from deadhead.reconstruction.consumers import Consumer, consumers_of
from deadhead.reconstruction.curvature import output_curvatures
from deadhead.reconstruction.sums import STATISTICS_BYTES, grams
from deadhead.reconstruction.surgeon import damped, inverse

PATIENCE = 2
"""Number of steps in a row without a lower divergence on the held-out samples that end the descent."""
INPUT_DAMPING = 0.1
"""Damping of the second moments of what consumers read, in parts of their mean diagonal."""
OUTPUT_DAMPING = 1.0
"""Damping of the curvature at the consumers' outputs, in parts of its mean diagonal."""
FIRST_LENGTH = 0.1
"""The step length that is tried first."""
OUTPUTS_MEMORY = 2**28
"""Maximum size of the intact network's outputs that are stored between steps, in bytes."""

Deltas = dict[str, Tensor]
"""{weight: (groups, outputs, columns + 1)}, float64: the changes of a weight and, in the last column, its constant."""


@compensation("gauss_newton", after="least_squares")
def gauss_newton(problem: Problem, *, steps: int = 10) -> Compensation:
    """Move all refitted weights and constants at once towards the intact network's outputs, after least squares.

    At most `steps` steps that lower `mean_n D(o_n, o_n*)` over the calibration samples, o* the intact network's outputs
    and D the loss's `divergence`. The result is the step with the minimum of D on the held-out samples, the start if no
    step is better. Targets are not read.

    The direction at each consumer is `(S + D_S)^-1 dD/dW (G + D_G)^-1`, G = E[a~ a~^T] the second moments of the
    remaining columns, S the Gauss-Newton curvature of the loss at its outputs (`output_curvatures`), both of the
    network as it is at the start, damped; directions are conjugated by the formula of Polak and Ribiere, and step
    lengths searched along them. Consumers whose statistics do not fit `STATISTICS_BYTES` are not moved, and none is
    where outputs cannot be compared sample by sample; `unrefined` says so.

    Source: Martens and Grosse (2015), the product of S and G as curvature; Hinton et al. (2015), divergence.
    """
    assert problem.start is not None
    objective, start = _Objective(problem, problem.start), problem.start
    blocks, unrefined = _blocks(objective)
    result = replace(start, tensors=dict(start.tensors), biases=dict(start.biases), constants=dict(start.constants))
    result.unrefined = unrefined
    if not blocks:
        return result
    objective.blocks = blocks
    try:
        deltas, result.divergence = _descend(objective, steps)
    except LossError as error:
        result.unrefined |= {block.consumer.weight: str(error) for block in blocks}
        return result
    moved, offsets = objective.tensors(deltas)
    result.tensors.update(moved)
    tensors = problem.network.frozen_state()
    for block in blocks:
        if block.consumer.weight in offsets:
            put_constant(result, block.consumer, offsets[block.consumer.weight].double(), tensors)
    return result


@dataclass(frozen=True)
class _Block:
    """One consumer and its approximate inverse curvature.

    Attributes:
        consumer: the consumer, with g groups of o outputs.
        remaining: the indices of its r remaining columns, the constant among them.
        columns: the inverse of G, damped, (g, r, r).
        outputs: the inverse of S, damped, (g, o, o), or of its diagonal, (g, o).
    """

    consumer: Consumer
    remaining: Tensor
    columns: Tensor
    outputs: Tensor

    def direction(self, gradient: Tensor) -> Tensor:
        """The Gauss-Newton direction for a gradient, both (g, o, columns + 1)."""
        inner = gradient[..., self.remaining]
        inner = self.outputs @ inner if self.outputs.dim() == 3 else self.outputs[..., None] * inner
        result = torch.zeros_like(gradient)
        result[..., self.remaining] = (inner @ self.columns.to(inner)).to(result)
        return result


def _parts(consumers: Sequence[Consumer]) -> tuple[list[list[Consumer]], dict[str, str]]:
    """Consumers by the pass in which their statistics are read, as many as fit; why others are not moved."""
    parts: list[list[Consumer]] = []
    unrefined: dict[str, str] = {}
    taken, stored = STATISTICS_BYTES, 0
    for consumer in consumers:
        takes = 8 * consumer.products
        if consumer.blocks or takes > STATISTICS_BYTES or stored + takes // 2 > STATISTICS_BYTES:
            unrefined[consumer.weight] = "too large for gauss_newton"
            continue
        if taken + takes > STATISTICS_BYTES:
            parts.append([])
            taken = 0
        parts[-1].append(consumer)
        taken += takes
        stored += takes // 2
    return parts, unrefined


def _blocks(objective: _Objective) -> tuple[list[_Block], dict[str, str]]:
    """The consumers that can be moved, with their inverse curvatures, and why others cannot, {weight: reason}."""
    problem, gates = objective.problem, objective.gates({}, {})
    batches, progress, removed = problem.calibration.fit, problem.progress, problem.plan.removed
    consumers = [
        each for each in consumers_of(problem.network, problem.affected)[0] if each.weight in objective.start.tensors
    ]
    parts, unrefined = _parts(consumers)
    wanted = [consumer.weight for part in parts for consumer in part]
    curvatures = output_curvatures(gates, wanted, batches, problem.seed, progress) if wanted else {}
    blocks = []
    for part in parts:
        known = grams(gates, [consumer.weight for consumer in part], batches, progress)
        for consumer in part:
            if consumer.weight not in known or consumer.weight not in curvatures:
                continue
            missing = consumer.removed_columns(gates.state[consumer.weight], removed)[0]
            constant = torch.tensor([consumer.constant is not None], device=missing.device)
            remaining = torch.cat([~missing, constant]).nonzero()[:, 0]
            (gram,) = known[consumer.weight]
            inverses = [
                inverse(damped(each.double() / gram.count, INPUT_DAMPING)[remaining][:, remaining])
                for each in gram.total
            ]
            outputs = _inverse_curvature(curvatures[consumer.weight])
            blocks.append(_Block(consumer, remaining, torch.stack(inverses).float(), outputs))
    return blocks, unrefined


def _inverse_curvature(curvature: Tensor) -> Tensor:
    """The inverse of S, damped: (groups, o, o), or of its diagonal, (groups, o)."""
    diagonal = curvature if curvature.dim() == 2 else curvature.diagonal(dim1=1, dim2=2)
    extra = (OUTPUT_DAMPING * diagonal.mean(1, keepdim=True)).clamp(min=1e-300).expand_as(diagonal)
    if curvature.dim() == 2:
        return 1 / (curvature + extra)
    return torch.stack([inverse(each) for each in curvature + torch.diag_embed(extra)])


@dataclass
class _Objective:
    """The mean divergence of the pruned network's outputs from the intact one's, as a function of deltas."""

    problem: Problem
    start: Compensation
    blocks: list[_Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.intact = PrunedState.of(self.problem.network).gates(self.problem.loss)
        self._targets: dict[int, Tensor] = {}
        self._stored = 0

    def origin(self) -> Deltas:
        """Deltas of zero: the compensation at the start."""
        deltas = {}
        for block in self.blocks:
            matrix = block.consumer.matrix(self.start.tensors[block.consumer.weight])
            shape = (*matrix.shape[:-1], matrix.shape[-1] + 1)
            deltas[block.consumer.weight] = torch.zeros(shape, dtype=torch.float64, device=matrix.device)
        return deltas

    def tensors(self, deltas: Deltas) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights with their deltas added, and the constants to be added to their consumers' outputs, by weight."""
        moved, offsets = {}, {}
        for block in self.blocks:
            name, delta = block.consumer.weight, deltas[block.consumer.weight]
            have = self.start.tensors[name]
            moved[name] = (have.double() + block.consumer.weight_of(delta[..., :-1], have)).to(have.dtype)
            if block.consumer.constant is not None:
                offsets[name] = delta[..., -1].flatten().to(have.dtype)
        return moved, offsets

    def gates(self, moved: Mapping[str, Tensor], offsets: Mapping[str, Tensor]) -> Gates:
        """The pruned network with these weights, and these constants besides those of the start."""
        constants = dict(self.start.constants)
        for weight, offset in offsets.items():
            constants[weight] = constants[weight] + offset if weight in constants else offset
        here = replace(self.start, tensors={**self.start.tensors, **moved}, constants=constants)
        return self.problem.state(here).gates(self.problem.loss)

    def _divergence(self, gates: Gates, batch: Batch) -> Tensor:
        """The divergence of each sample's outputs from the intact network's, (samples,)."""
        key, batch = id(batch), batch.to(self.problem.network.device())
        return self.problem.loss.divergence(gates.outputs({}, batch), self._target(key, batch), batch)

    def _target(self, key: int, batch: Batch) -> Tensor:
        """The intact network's outputs for a batch, stored by `key` as far as `OUTPUTS_MEMORY` allows."""
        if key in self._targets:
            return self._targets[key]
        with torch.no_grad():
            target = prediction_of(self.intact.outputs({}, batch))
        if self._stored + target.nbytes <= OUTPUTS_MEMORY:
            self._stored += target.nbytes
            self._targets[key] = target
        return target

    def value(self, deltas: Deltas, batches: Sequence[Batch]) -> float:
        """The mean divergence over the samples of some batches; infinity where it is not finite."""
        gates, total = self.gates(*self.tensors(deltas)), 0.0
        with torch.no_grad():
            for batch in batches:
                total += self._divergence(gates, batch).double().sum().item()
        return total / count(batches) if math.isfinite(total) else math.inf

    def gradient(self, deltas: Deltas) -> tuple[float, Deltas]:
        """The mean divergence over the samples that are fitted to, and its gradient with respect to the deltas."""
        moved, offsets = self.tensors(deltas)
        leaves = [tensor.requires_grad_() for tensor in (*moved.values(), *offsets.values())]
        gates, batches, total = self.gates(moved, offsets), self.problem.calibration.fit, 0.0
        for batch in track(self.problem.progress, "Gauss-Newton step", batches):
            with torch.enable_grad():
                divergence = self._divergence(gates, batch)
                torch.autograd.backward(divergence.sum(), inputs=leaves)
            total += divergence.detach().double().sum().item()
        gradients = {}
        for block in self.blocks:
            name, consumer = block.consumer.weight, block.consumer
            weight = consumer.matrix(_gradient(moved[name]))
            constant = _gradient(offsets[name]) if name in offsets else weight.new_zeros(weight.shape[:-1])
            gradients[name] = torch.cat([weight, constant.reshape(*weight.shape[:-1], 1)], -1) / count(batches)
        return total / count(batches), gradients


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf, dtype=torch.float64) if leaf.grad is None else leaf.grad.double()


def _descend(objective: _Objective, steps: int) -> tuple[Deltas, tuple[float, float]]:
    """The deltas with the minimum divergence on the held-out samples, and that divergence before and after."""
    here = best = objective.origin()
    held_out = objective.problem.calibration.held_out
    first = minimum = objective.value(here, held_out)
    length, waited = FIRST_LENGTH, 0
    before: tuple[Deltas, Deltas, Deltas] | None = None
    for _ in range(steps):
        now, gradient = objective.gradient(here)
        if not all(each.isfinite().all() for each in gradient.values()):
            break
        natural = {
            block.consumer.weight: block.direction(gradient[block.consumer.weight]) for block in objective.blocks
        }
        direction = natural
        if before is not None:
            old, old_natural, old_direction = before
            turn = max(0.0, (_dot(gradient, natural) - _dot(old, natural)) / max(_dot(old, old_natural), 1e-300))
            direction = _moved(natural, old_direction, turn)
            direction = direction if _dot(gradient, direction) > 0 else natural
        before = gradient, natural, direction
        step = _step_length(objective, here, direction, now, _dot(gradient, direction), length)
        if step is None:
            break
        length = step
        here = _moved(here, direction, -length)
        divergence = objective.value(here, held_out)
        waited = 0 if divergence < minimum else waited + 1
        if divergence < minimum:
            best, minimum = here, divergence
        elif waited == PATIENCE:
            break
    return best, (first, minimum)


def _step_length(
    objective: _Objective, here: Deltas, direction: Deltas, now: float, fall: float, length: float
) -> float | None:
    """The step length against a direction that lowers the divergence on the fitted samples most, of those tried.

    Each length is at the minimum of the parabola through the last. None where no length lowers the divergence.

    Args:
        objective: the divergence as a function of deltas.
        here: the deltas before the step.
        direction: the direction, against which the step goes.
        now: the divergence before the step.
        fall: its derivative along the direction.
        length: the length that is tried first.
    """
    tried: dict[float, float] = {}
    for _ in range(4):
        tried[length] = objective.value(_moved(here, direction, -length), objective.problem.calibration.fit)
        bend = (tried[length] - now + length * fall) / length**2
        suggested = length / 10 if not math.isfinite(bend) else 4 * length if bend <= 0 else fall / (2 * bend)
        suggested = min(max(suggested, length / 10), 4 * length)
        good = tried[length] < now
        if good and (len(tried) > 1 or 0.8 < suggested / length < 1.25):
            break
        length = suggested
    best = min(tried, key=tried.__getitem__)
    return best if tried[best] < now else None


def _moved(here: Deltas, direction: Deltas, by: float) -> Deltas:
    return {name: delta + by * direction[name] for name, delta in here.items()}


def _dot(left: Deltas, right: Deltas) -> float:
    return sum((value * right[name]).sum().item() for name, value in left.items())
