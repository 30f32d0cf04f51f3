"""Compensation at the outputs: Gauss-Newton steps of all consumers at once towards what the intact network gives."""

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
from deadhead.reconstruction.sums import grams
from deadhead.reconstruction.surgeon import damped, inverse

PATIENCE = 2
"""So many steps in a row without gain on the held-out rows end it."""
INPUT_DAMPING = 0.1
"""Of the second moments of what is read, in parts of their mean diagonal."""
OUTPUT_DAMPING = 1.0
"""Of the curvature at what is given, in parts of its mean diagonal."""
FIRST = 0.1
"""The first length of step that is tried."""
MEMORY = 2**30
"""Bytes that the statistics of one pass may take, and as many the inverses that stay."""
HELD = 2**28
"""Bytes of the intact network's outputs that are kept from step to step."""

Deltas = dict[str, Tensor]
"""By how much each weight, as (groups, outputs, columns), and the constant behind it, as one more column, have moved;
float64."""


@compensation("gauss_newton", after="least_squares")
def gauss_newton(problem: Problem, *, steps: int = 10) -> Compensation:
    """Move all refitted weights and constants at once towards the intact network's outputs, after least squares.

    At most `steps` steps that lower `mean_n D(o_n, o_n*)` over the calibration samples, o* the intact network's outputs
    and D the loss's `divergence`. The place with the minimum of D on the held-out samples is taken, the start if there
    is none better. Targets are not read.

    The direction at each consumer is `(S + D_S)^-1 dD/dW (G + D_G)^-1`, G = E[a~ a~^T] the second moments of the
    columns that are left, S the Gauss-Newton curvature of the loss at what it gives (`output_curvatures`), both of the
    network as it is at the start, damped; directions are conjugated after Polak and Ribiere, and lengths found along
    them. Consumers whose statistics do not fit `MEMORY` stay as they are, and all do where outputs cannot be
    compared sample by sample; `unrefined` says so.

    Source: Martens and Grosse 2015 (the product of S and G as curvature), Hinton et al. 2015 (divergence).
    """
    assert problem.start is not None
    path, start = _Path(problem, problem.start), problem.start
    blocks, unrefined = _blocks(path)
    result = replace(start, tensors=dict(start.tensors), biases=dict(start.biases), constants=dict(start.constants))
    result.unrefined = unrefined
    if not blocks:
        return result
    path.blocks = blocks
    try:
        deltas, result.divergence = _descend(path, steps)
    except LossError as error:
        result.unrefined |= {block.consumer.weight: str(error) for block in blocks}
        return result
    moved, offsets = path.tensors(deltas)
    result.tensors.update(moved)
    tensors = problem.network.frozen_state()
    for block in blocks:
        if block.consumer.weight in offsets:
            put_constant(result, block.consumer, offsets[block.consumer.weight].double(), tensors)
    return result


@dataclass(frozen=True)
class _Block:
    """One consumer, and the damped inverses of G, (groups, kept, kept), and of S, (groups, o, o) or its diagonal."""

    consumer: Consumer
    kept: Tensor
    columns: Tensor
    outputs: Tensor

    def direction(self, gradient: Tensor) -> Tensor:
        inner = gradient[..., self.kept]
        inner = self.outputs @ inner if self.outputs.dim() == 3 else self.outputs[..., None] * inner
        result = torch.zeros_like(gradient)
        result[..., self.kept] = (inner @ self.columns.to(inner)).to(result)
        return result


def _parts(consumers: Sequence[Consumer]) -> tuple[list[list[Consumer]], dict[str, str]]:
    """Consumers whose statistics are read in one pass, as many as fit the memory, and why others cannot be moved."""
    parts: list[list[Consumer]] = []
    unrefined: dict[str, str] = {}
    taken, stays = MEMORY, 0
    for consumer in consumers:
        takes = 8 * consumer.products
        if consumer.blocks or takes > MEMORY or stays + takes // 2 > MEMORY:
            unrefined[consumer.weight] = "too large for gauss_newton"
            continue
        if taken + takes > MEMORY:
            parts.append([])
            taken = 0
        parts[-1].append(consumer)
        taken += takes
        stays += takes // 2
    return parts, unrefined


def _blocks(path: _Path) -> tuple[list[_Block], dict[str, str]]:
    """The consumers that can be moved, and why others cannot, by weight."""
    problem, gates = path.problem, path.gates({}, {})
    batches, progress, removed = problem.calibration.fit, problem.progress, problem.plan.removed
    consumers = [
        each for each in consumers_of(problem.network, problem.affected)[0] if each.weight in path.start.tensors
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
            gone = consumer.removed_columns(gates.state[consumer.weight], removed)[0]
            constant = torch.tensor([consumer.constant is not None], device=gone.device)
            kept = torch.cat([~gone, constant]).nonzero()[:, 0]
            (gram,) = known[consumer.weight]
            inverses = [
                inverse(damped(each.double() / gram.count, INPUT_DAMPING)[kept][:, kept]) for each in gram.total
            ]
            curvature = curvatures[consumer.weight]
            diagonal = curvature if curvature.dim() == 2 else curvature.diagonal(dim1=1, dim2=2)
            extra = (OUTPUT_DAMPING * diagonal.mean(1, keepdim=True)).clamp(min=1e-300).expand_as(diagonal)
            if curvature.dim() == 2:
                outputs = 1 / (curvature + extra)
            else:
                outputs = torch.stack([inverse(each) for each in curvature + torch.diag_embed(extra)])
            blocks.append(_Block(consumer, kept, torch.stack(inverses).float(), outputs))
    return blocks, unrefined


@dataclass
class _Path:
    """The pruned network with its consumers moved from where they were compensated to."""

    problem: Problem
    start: Compensation
    blocks: list[_Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.intact = PrunedState.of(self.problem.network).gates(self.problem.loss)
        self._wanted: dict[int, Tensor] = {}
        self._held = 0

    def still(self) -> Deltas:
        """Where it starts."""
        found = {}
        for block in self.blocks:
            matrix = block.consumer.matrix(self.start.tensors[block.consumer.weight])
            shape = (*matrix.shape[:-1], matrix.shape[-1] + 1)
            found[block.consumer.weight] = torch.zeros(shape, dtype=torch.float64, device=matrix.device)
        return found

    def tensors(self, deltas: Deltas) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights after the moves, and what is to be added to what their consumers give."""
        moved, offsets = {}, {}
        for block in self.blocks:
            name, delta = block.consumer.weight, deltas[block.consumer.weight]
            have = self.start.tensors[name]
            moved[name] = (have.double() + block.consumer.weight_of(delta[..., :-1], have)).to(have.dtype)
            if block.consumer.constant is not None:
                offsets[name] = delta[..., -1].flatten().to(have.dtype)
        return moved, offsets

    def gates(self, moved: Mapping[str, Tensor], offsets: Mapping[str, Tensor]) -> Gates:
        constants = dict(self.start.constants)
        for weight, offset in offsets.items():
            constants[weight] = constants[weight] + offset if weight in constants else offset
        here = replace(self.start, tensors={**self.start.tensors, **moved}, constants=constants)
        return self.problem.state(here).gates(self.problem.loss)

    def _apart(self, gates: Gates, batch: Batch) -> Tensor:
        """How far each row's outputs are from the intact network's, shape (rows,)."""
        key, batch = id(batch), batch.to(self.problem.network.device())
        return self.problem.loss.divergence(gates.outputs({}, batch), self._of_intact(key, batch), batch)

    def _of_intact(self, key: int, batch: Batch) -> Tensor:
        """What the intact network gives for a batch."""
        if key in self._wanted:
            return self._wanted[key]
        with torch.no_grad():
            wanted = prediction_of(self.intact.outputs({}, batch))
        if self._held + wanted.nbytes <= HELD:
            self._held += wanted.nbytes
            self._wanted[key] = wanted
        return wanted

    def mean(self, deltas: Deltas, batches: Sequence[Batch]) -> float:
        """The mean divergence over rows; infinity where it is not finite."""
        gates, total = self.gates(*self.tensors(deltas)), 0.0
        with torch.no_grad():
            for batch in batches:
                total += self._apart(gates, batch).double().sum().item()
        return total / count(batches) if math.isfinite(total) else math.inf

    def slope(self, deltas: Deltas) -> tuple[float, Deltas]:
        """The mean divergence over the calibration rows, and its derivative by the deltas."""
        moved, offsets = self.tensors(deltas)
        leaves = [tensor.requires_grad_() for tensor in (*moved.values(), *offsets.values())]
        gates, batches, total = self.gates(moved, offsets), self.problem.calibration.fit, 0.0
        for batch in track(self.problem.progress, "Gauss-Newton step", batches):
            with torch.enable_grad():
                apart = self._apart(gates, batch)
                torch.autograd.backward(apart.sum(), inputs=leaves)
            total += apart.detach().double().sum().item()
        found = {}
        for block in self.blocks:
            name, consumer = block.consumer.weight, block.consumer
            weight = consumer.matrix(_gradient(moved[name]))
            constant = _gradient(offsets[name]) if name in offsets else weight.new_zeros(weight.shape[:-1])
            found[name] = torch.cat([weight, constant.reshape(*weight.shape[:-1], 1)], -1) / count(batches)
        return total / count(batches), found


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf, dtype=torch.float64) if leaf.grad is None else leaf.grad.double()


def _descend(path: _Path, steps: int) -> tuple[Deltas, tuple[float, float]]:
    """Where the held-out rows' divergence was least along the way, and what it was at the start and there."""
    here = best = path.still()
    held_out = path.problem.calibration.held_out
    first = least = path.mean(here, held_out)
    length, waited = FIRST, 0
    before: tuple[Deltas, Deltas, Deltas] | None = None
    for _ in range(steps):
        now, slope = path.slope(here)
        if not all(gradient.isfinite().all() for gradient in slope.values()):
            break
        natural = {block.consumer.weight: block.direction(slope[block.consumer.weight]) for block in path.blocks}
        direction = natural
        if before is not None:
            old, old_natural, old_direction = before
            turn = max(0.0, (_dot(slope, natural) - _dot(old, natural)) / max(_dot(old, old_natural), 1e-300))
            direction = _moved(natural, old_direction, turn)
            direction = direction if _dot(slope, direction) > 0 else natural
        before = slope, natural, direction
        found = _length(path, here, direction, now, _dot(slope, direction), length)
        if found is None:
            break
        length = found
        here = _moved(here, direction, -length)
        apart = path.mean(here, held_out)
        waited = 0 if apart < least else waited + 1
        if apart < least:
            best, least = here, apart
        elif waited == PATIENCE:
            break
    return best, (first, least)


def _length(path: _Path, here: Deltas, direction: Deltas, now: float, fall: float, length: float) -> float | None:
    """How far to go against a direction along which the divergence, `now`, rises by `fall`: the best of some lengths,
    each where the parabola through the last is least; None where none lowers it."""
    tried: dict[float, float] = {}
    for _ in range(4):
        tried[length] = path.mean(_moved(here, direction, -length), path.problem.calibration.fit)
        bend = (tried[length] - now + length * fall) / length**2
        least = length / 10 if not math.isfinite(bend) else 4 * length if bend <= 0 else fall / (2 * bend)
        least = min(max(least, length / 10), 4 * length)
        good = tried[length] < now
        if good and (len(tried) > 1 or 0.8 < least / length < 1.25):
            break
        length = least
    best = min(tried, key=tried.__getitem__)
    return best if tried[best] < now else None


def _moved(here: Deltas, direction: Deltas, by: float) -> Deltas:
    return {name: delta + by * direction[name] for name, delta in here.items()}


def _dot(left: Deltas, right: Deltas) -> float:
    return sum((value * right[name]).sum().item() for name, value in left.items())
