"""`minimise`: remove every unit that zeros among the weights have made superfluous, to a fixed point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.compensate import Problem, compensate
from deadhead.cut.optimizer import check_optimizer
from deadhead.cut.verify import floats, tolerance_of
from deadhead.data.calibration import Batch, Calibration, read
from deadhead.data.losses import as_loss
from deadhead.data.opened import prepared_network
from deadhead.errors import BudgetError
from deadhead.gates.state import PrunedState, Removed
from deadhead.graph.agreement import relative_difference
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group, Site
from deadhead.progress import Progress, track
from deadhead.pruning.material import Clock, Material, Removable
from deadhead.pruning.options import Options
from deadhead.pruning.prune import carried_out
from deadhead.pruning.pruned import Pruned
from deadhead.pruning.steps import Pruning
from deadhead.select.plan import plan_of
from deadhead.select.ranking import Constraints

SIDES = ("either", "incoming", "outgoing")
Unit = tuple[str, int]
TRIED_ON = 64
"""About the number of samples on which the removal of single units is tried."""


@dataclass(frozen=True)
class Density:
    """How many weights of each unit of a group are not zero, as fractions.

    Attributes:
        incoming: (K,), of the weights that make it, biases not counted; NaN where something else makes it too.
        outgoing: (K,), of the weights that read it; NaN where something else reads it too.
    """

    incoming: Tensor
    outgoing: Tensor

    def smallest(self, side: str) -> Tensor:
        """(K,), the smaller of both, or that of one side; infinite where it is not known."""
        sides = {"incoming": [self.incoming], "outgoing": [self.outgoing], "either": [self.incoming, self.outgoing]}
        return torch.stack([each.nan_to_num(torch.inf) for each in sides[side]]).amin(0)


def densities(network: Network, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Density]:
    """The fraction of weights that are not zero, into and out of each unit.

    Args:
        network: the network.
        tensors: parameters and buffers by name; by default those that it has.

    Returns:
        {group: its density}.

    Source:
        Evci (2018), section 2.2 and fig. 2.11, which counts "non-zero incoming and out-going weights for each unit".

    Example:
        >>> from deadhead.graph.network import trace
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
        >>> with torch.no_grad():
        ...     model[0].weight[1, 0] = 0.0
        ...     model[2].weight[:, 2] = 0.0
        >>> found = densities(trace(model, torch.zeros(1, 2)))["0"]
        >>> found.incoming.tolist(), found.outgoing.tolist()
        ([1.0, 0.5, 1.0], [1.0, 1.0, 0.0])
    """
    tensors = network.frozen_state() if tensors is None else tensors
    return {
        group.name: Density(_of_sites(group, group.producers, tensors), _of_sites(group, group.consumers, tensors))
        for group in network.groups
    }


def _of_sites(group: Group, sites: Sequence[Site], tensors: Mapping[str, Tensor]) -> Tensor:
    """The fraction of weights that are not zero among those of these sites that belong to each unit."""
    there, total = torch.zeros(group.size), torch.zeros(group.size)
    axes = {(site.weight, site.weight_axis) for site in sites}
    if not sites or any(weight is None for weight, _ in axes):
        return torch.full((group.size,), torch.nan)
    for part in group.slices:
        if (part.parameter, part.axis) in axes:
            tensor, mine = tensors[part.parameter], part.units >= 0
            along = (tensor != 0).movedim(part.axis, 0).reshape(len(part.units), -1).sum(1).cpu().to(there)
            there.index_add_(0, part.units[mine], along[mine])
            total.index_add_(0, part.units[mine], torch.full_like(along, tensor.numel() / len(along))[mine])
    return there / total


@torch.inference_mode(False)
def minimise(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any = None,
    at_most: float = 0.0,
    side: str = "either",
    test: Iterable[Any] | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    min_units: int = 1,
    inplace: bool = False,
    optimizer: Optimizer | None = None,
    samples: int = 1024,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pruned:
    """Remove the units of a network with zeros among its weights that nothing makes or nothing reads.

    A unit whose outgoing weights are all zero is read by nothing. A unit whose incoming weights are all zero is a
    constant, which goes into its consumers' biases. Removing either can leave another without weights, so that this is
    repeated until nothing more can go. What is removed does not change the function: that is shown on the data, and a
    unit for which it is not so (a constant under the zero padding of a convolution, say) is kept.

    Args:
        model_or_network: a module whose weights a mask has set to zero, traced with the first batch, or a `Network`. It
            is left as it was unless `inplace`.
        data: any iterable of batches; read once.
        loss: the loss of the report; None reports how far outputs move.
        at_most: remove units of which at most this fraction of the incoming or of the outgoing weights is not zero.
            Above 0 this is approximate, is done once and not repeated, and the report says what it costs.
        side: which weights are counted, "incoming", "outgoing" or "either".
        test: data that no decision sees, to report on.
        only: only groups whose module name matches one of these patterns.
        exclude: no groups whose module name matches one of these patterns.
        min_units: keep at least this many units of each group.
        inplace: cut the model itself.
        optimizer: the optimizer that trains the model, cut along with it.
        samples: the maximum number of samples of `data` that are read.
        seed: by which samples are held out, where there is a loss.
        progress: called with (step, done, total).

    Returns:
        `Pruned`: the smaller model, the plan and the report.

    Raises:
        BudgetError: no unit can be removed.

    Source:
        Evci (2018), section 2.2 and fig. 2.11, for the fraction; Squeeze-Release (arXiv 2606.14346) for the fixed
        point.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> with torch.no_grad():
        ...     model[0].weight[0] = 0.0  # a constant
        ...     model[2].weight[1, 1:] = 0.0  # reads nothing else, so that it is a constant too
        ...     model[4].weight[0, 3] = 0.0  # is not read
        >>> smaller = minimise(model, [torch.randn(8, 2)])
        >>> [layer.out_features for layer in smaller.model if isinstance(layer, nn.Linear)]
        [2, 2, 1]
    """
    if side not in SIDES:
        raise BudgetError(f"There is no side {side!r} of a unit; the sides are {', '.join(SIDES)}.")
    if not 0 <= at_most < 1:
        raise BudgetError(f"at_most={at_most} is out of range: it is a fraction of weights, in [0, 1).")
    clock, axis = Clock(), model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    options = Options(units=1.0, only=only, exclude=exclude, min_units=min_units, samples=samples, seed=seed)
    with clock("data"):
        if loss is None:
            batches = read(data, samples=samples, batch_axis=axis)
            network = prepared_network(model_or_network, batches)
            material = Material.against_itself(network, batches)
        else:
            material = Material.read(data, test, loss, options, axis)
            network = prepared_network(model_or_network, material.batches)
    if optimizer is not None:
        check_optimizer(optimizer, network.module)
    with clock("units"):
        removable = Removable.of(network, material.batches, options, progress)
    with clock("select"):
        removed = removable_units(removable, material.batches, at_most, side, min_units, progress)
    if not removed:
        share = "no weights that are not zero" if not at_most else f"so few weights that are not zero ({at_most:g})"
        raise BudgetError(
            f"No unit of {type(network.module).__name__} has {share} on one side; prune it by a budget with "
            "deadhead.prune, or raise at_most."
        )
    plan = plan_of([(name, unit) for name, units in removed.items() for unit in units.tolist()])
    options = Options(plan=plan, compensate="mean", min_units=min_units, inplace=inplace, curve=0, seed=seed)
    pruning = Pruning(removable, material, options, progress)
    with clock("compensate"):
        plan, compensation = pruning.compensate(pruning.select(None))
    return carried_out(pruning, plan, compensation, clock, optimizer, criterion="zero weights")


def removable_units(
    removable: Removable,
    batches: Sequence[Batch],
    at_most: float = 0.0,
    side: str = "either",
    min_units: int = 1,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The units of which at most a fraction of the weights on a side is not zero, {group: indices}.

    With `at_most` 0 only those whose removal, with their means in their consumers' biases, changes no output, and to a
    fixed point.

    Args:
        removable: the network, and what can be cut from it.
        batches: the data on which it is shown that no output changes.
        at_most: the fraction.
        side: which weights are counted.
        min_units: at least this many units of each group are kept.
        progress: called with (step, done, total).
    """
    barred = {group.name: torch.zeros(group.size, dtype=torch.bool) for group in removable.cutting.groups}
    if at_most:
        rounds = _to_a_fixed_point(removable, at_most, side, min_units, barred)
        return plan_of([unit for new in rounds for unit in new]).removed
    whole, few = _Trial(removable, batches), _Trial(removable, _few(batches))
    while True:
        rounds = _to_a_fixed_point(removable, at_most, side, min_units, barred)
        before = sum(int(mask.sum()) for mask in barred.values())
        accepted: list[Unit] = []
        for new in track(progress, "units without weights", rounds):
            if not whole.changes_nothing([*accepted, *new]):
                for name, unit in new:
                    if not few.changes_nothing([*accepted, (name, unit)]):
                        barred[name][unit] = True
                if sum(int(mask.sum()) for mask in barred.values()) == before:  # none does alone, or on these samples
                    for name, unit in new:
                        barred[name][unit] = True
                break
            accepted += new
        else:
            return plan_of(accepted).removed


def _few(batches: Sequence[Batch]) -> list[Batch]:
    few: list[Batch] = []
    for batch in batches:
        if sum(each.rows for each in few) < TRIED_ON:
            few.append(batch)
    return few


def _to_a_fixed_point(
    removable: Removable, at_most: float, side: str, min_units: int, barred: Mapping[str, Tensor]
) -> list[list[Unit]]:
    """Units of few weights, in rounds: what a round finds has no weights left when those of the rounds before are
    removed. With `at_most` above 0 there is one round.

    Where some of a group have to be kept, those with the fewest weights go first.
    """
    network, groups = removable.network, removable.cutting.groups
    constraints = Constraints(min_units=min_units, multiples=removable.cutting.multiples)
    closed = {group.name: torch.zeros(group.size, dtype=torch.bool) for group in groups}
    tied = {name for tie in removable.cutting.ties for name in tie}
    rounds: list[list[Unit]] = []
    while True:
        removed = Removed({name: mask.nonzero()[:, 0] for name, mask in closed.items() if mask.any()})
        density = densities(network, PrunedState.of(network, removed).remaining())
        new: list[Unit] = []
        for group in groups:
            if group.name in tied or group.norms:
                continue
            share = density[group.name].smallest(side)
            share[barred[group.name] | closed[group.name]] = torch.inf
            there = int((~closed[group.name]).sum())
            wanted = max(there - int((share <= at_most).sum()), group.minimum)
            count = there - constraints.remaining(group.name, group.size, wanted)
            if count > 0:
                new += [(group.name, unit) for unit in share.argsort(stable=True)[:count].tolist()]
        for name, unit in new:
            closed[name][unit] = True
        rounds += [new] if new else []
        if not new or at_most:
            return rounds


class _Trial:
    """Whether removals change outputs, of which the intact ones are computed once."""

    def __init__(self, removable: Removable, batches: Sequence[Batch]) -> None:
        self._network, self._groups = removable.network, removable.cutting.groups
        self._batches = [batch.to(self._network.device()) for batch in batches]
        self._expected = [floats(self._network.run_module(batch.inputs)) for batch in self._batches]
        self._tolerance = tolerance_of(self._network.module)

    def changes_nothing(self, removed: Sequence[Unit]) -> bool:
        """Whether no output changes by more than rounding when these units are removed and their means propagated."""
        calibration = Calibration(self._batches, self._batches)
        problem = Problem(self._network, self._groups, plan_of(list(removed)), calibration, as_loss("mse"))
        state = problem.state(compensate(problem, "mean"))
        return all(
            relative_difference(ours, theirs) <= self._tolerance
            for batch, expected in zip(self._batches, self._expected, strict=True)
            for ours, theirs in zip(floats(state.outputs(batch)), expected, strict=True)
        )
