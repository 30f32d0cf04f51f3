"""`Masks`: units and single weights of a network that trains, closed and opened in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.cut.optimizer import adopt, check_optimizer, cut_in_place, exchange
from deadhead.cut.surgery import Surgery, operate, owner_of, pick
from deadhead.data.calibration import Batch, as_batch, read
from deadhead.errors import MaskError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network, trace
from deadhead.progress import Progress
from deadhead.pruning.material import Material, Removable
from deadhead.pruning.pruned import Pruned
from deadhead.reconstruction.compensation import Compensation, contribution, put_constant
from deadhead.reconstruction.consumers import consumers_of
from deadhead.reconstruction.sums import patch_means
from deadhead.select.plan import Plan, plan_of
from deadhead.text import counted
from deadhead.training.choose import choose_units, choose_weights
from deadhead.training.cutting import History, cut_masked
from deadhead.training.entries import spared_tensors, unit_entries, with_weights
from deadhead.training.fresh import fresh_values
from deadhead.training.held import Holding

HOW = ("as it was", "anew")
"""What units that are opened start from."""


class Masks:
    """Close units or single weights of a network while it trains, in place; open them again, or cut them.

    A closed unit's entries in all tensors (incoming and outgoing weights, bias, batch norm and its statistics) are
    zero, and remain so to the bit whatever the optimizer does: their gradients are zero as they accumulate, the
    entries are zero after every step, and the optimizer's state at these entries is kept aside. Nothing is copied: the
    module and the optimizer are the caller's own, and training goes on in the caller's loop. With `torch.compile` and
    `DistributedDataParallel`, give either the module or its wrapper.

    Args:
        model_or_network: the module, or a `Network` that was traced from it.
        optimizer: the optimizer that trains it, several of them, or None where nothing trains it.
        example: what the module is called with, as for `deadhead.trace`; not needed with a `Network`.
        only: only groups whose module name matches one of these patterns can be closed.
        exclude: groups whose module name matches one of these patterns cannot be closed.

    Attributes:
        network: the traced network, of the module as it is now.
        optimizers: the optimizers.
        units: {group: (K,)}, true where a unit is closed.
        only, exclude: the patterns given.
        material: what the last `prune` read; None before.
        removable: what can be cut from the network, once that was asked.
        history: what was cut in place so far.
        refused: {what could not take a constant when its units were closed: why}.

    Raises:
        CutError: an optimizer holds no parameter of the module.
        TraceError: the module cannot be traced.

    Source:
        Evci (2018), sections 2.2 and 4.2: removal "simulated through masking the parameters of the units".

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        >>> masks = Masks(model, optimizer, example=torch.randn(8, 2))
        >>> masks.close({"0": [1, 2]})
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     model(torch.randn(8, 2)).square().mean().backward()
        ...     optimizer.step()
        >>> masks.closed, model[0].weight[1].tolist(), model[2].weight[0, 2].item()
        ({'0': [1, 2]}, [0.0, 0.0], 0.0)
        >>> masks.cut().model[0]
        Linear(in_features=2, out_features=2, bias=True)
    """

    def __init__(
        self,
        model_or_network: nn.Module | Network,
        optimizer: Optimizer | Sequence[Optimizer] | None,
        *,
        example: Any = None,
        only: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self.optimizers = _optimizers(optimizer)
        self._is_distributed = isinstance(model_or_network, nn.parallel.DistributedDataParallel)
        if isinstance(model_or_network, Network):
            self.network = model_or_network
        else:
            module = unwrapped(model_or_network)
            if example is None:
                raise MaskError(
                    f"{type(module).__name__} has to be traced to find its units; give example=inputs, what it is "
                    "called with, or a deadhead.trace(model, inputs) in place of the module."
                )
            self.network = trace(module, example)
        self.only, self.exclude = only, exclude
        for each in self.optimizers:
            check_optimizer(each, self.module)
        self.refused: dict[str, str] = {}
        self._holding = Holding(self.module, self.optimizers)
        self.material: Material | None = None
        self.removable: Removable | None = None
        self.history = History()
        self._given: dict[tuple[str, int], dict[str, Tensor]] = {}
        self._weights: dict[str, Tensor] = {}
        self._added: list[str] = []
        self._start()

    def _start(self) -> None:
        """Nothing of the network is closed, as it stands."""
        self.units = {
            group.name: torch.zeros(group.size, dtype=torch.bool)
            for group in self.network.select(self.only, self.exclude)
        }
        self._spared: dict[str, tuple[str, ...]] = {}

    @property
    def module(self) -> nn.Module:
        """The module whose units are closed."""
        return self.network.module

    @property
    def closed(self) -> dict[str, list[int]]:
        """{group: its closed units}, for groups that have any."""
        return {name: units.nonzero()[:, 0].tolist() for name, units in self.units.items() if bool(units.any())}

    @property
    def keep(self) -> dict[str, Tensor]:
        """{tensor: true where an entry is not closed}, for tensors that have closed entries."""
        return {name: ~held.closed for name, held in self._holding.held.items()}

    @property
    def plan(self) -> Plan:
        """The closed units as a plan, group by group."""
        return plan_of([(name, unit) for name, units in self.closed.items() for unit in units])

    def close(
        self,
        units: Mapping[str, Sequence[int] | Tensor],
        *,
        reference: str = "zero",
        data: Iterable[Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Close units.

        Args:
            units: {group: its units}, indices, or a bool tensor (K,) that is true where a unit is to be closed.
            reference: what consumers read in their place: "zero", or "mean": what they gave on average goes into the
                consumers' biases (bias propagation, Evci 2018, eq. 1.5 and 1.6; into a batch norm's running mean where
                that follows, into a new bias, which the optimizer gets too, where there is none).
            data: batches over which the mean is taken; by default the example that the network was traced with.
            progress: called with (step, done, total).

        Raises:
            MaskError: there is no such group or unit, no unit of a group would be open, or zeros would not close them.
        """
        if reference not in ("zero", "mean"):
            raise MaskError(f"There is no reference {reference!r} of masks; the references are zero and mean.")
        self._holding.check()
        new = self._new_units(units)
        self._prove(new)
        if reference == "mean" and new:
            self._propagate(new, self.example_batches() if data is None else self._read(data), progress)
        for name, closing in new.items():
            self.units[name] = self.units[name] | closing
        self._hold()

    def close_weights(self, keep: Mapping[str, Tensor]) -> None:
        """Close single weights.

        Args:
            keep: {parameter: bool tensor of its shape, true where a weight stays}; replaces what was said of these
                parameters before, other parameters stay as they are.

        Raises:
            MaskError: there is no such parameter, or the shapes differ.
        """
        tensors = self.network.state()
        for name, kept in keep.items():
            if name not in tensors or not isinstance(tensors[name], nn.Parameter):
                near = ", ".join(each for each, tensor in tensors.items() if isinstance(tensor, nn.Parameter))
                raise MaskError(f"There is no parameter {name!r}; the parameters are {near}.")
            if kept.shape != tensors[name].shape or kept.dtype != torch.bool:
                raise MaskError(
                    f"{name} has shape {tuple(tensors[name].shape)}, and what to keep of it is {kept.dtype} of shape "
                    f"{tuple(kept.shape)}: give a bool tensor of its shape, true where a weight stays."
                )
        for name, kept in keep.items():
            self._weights[self._first_name(name)] = ~kept.to(tensors[name].device)
        self._hold()

    def open(self, units: Mapping[str, Sequence[int] | Tensor] | None = None, how: str = "as it was") -> None:
        """Open closed units again.

        Args:
            units: {group: its units} as in `close`; all closed units by default.
            how: "as it was": with the weights and the optimizer's state that they had when they were closed, and
                without what went into their consumers' biases in their place; "anew": initialised as their layers
                would be, with the optimizer's state at zero.

        Raises:
            MaskError: a unit is not closed.
        """
        if how not in HOW:
            raise MaskError(f"There is no way {how!r} to open units; the ways are {' and '.join(HOW)}.")
        opening = self._as_masks(self.closed if units is None else units)
        for name, chosen in opening.items():
            if bool((chosen & ~self.units[name]).any()):
                wrong = (chosen & ~self.units[name]).nonzero()[:, 0].tolist()
                raise MaskError(f"{counted(len(wrong), 'unit')} of {name} to open not closed: {wrong}.")
        for name, chosen in opening.items():
            self.units[name] = self.units[name] & ~chosen
        self._hold(None if how == "as it was" else lambda name: fresh_values(self.module, name))
        back: dict[str, Tensor] = {}
        for name, chosen in opening.items():
            for unit in chosen.nonzero()[:, 0].tolist():
                for weight, constant in self._given.pop((name, unit), {}).items():
                    back[weight] = back[weight] - constant if weight in back else -constant
        self._add_constants(back)

    def prune(
        self,
        data: Iterable[Any] | None = None,
        *,
        loss: Any = None,
        units: float | int | Mapping[str, float | int] | None = None,
        weights: float | None = None,
        criterion: str | None = None,
        criterion_options: Mapping[str, Any] | None = None,
        compensate: str = "mean",
        compensate_options: Mapping[str, Any] | None = None,
        scope: str = "group",
        samples: int = 1024,
        seed: int = 0,
        progress: Progress | None = None,
        **options: Any,
    ) -> dict[str, list[int]]:
        """Choose units, or single weights, by a criterion and close them.

        Args:
            data: any iterable of batches; read once. A criterion that reads no data needs none (`magnitude`, `random`
                of single weights).
            loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
            units: budget: what remains open of every group, as in `deadhead.prune`. A fraction is one of the INTACT
                network, whatever was closed or cut before; units that are closed already count as removed.
            weights: budget: the fraction of single weights that remains open, of every matrix and kernel
                (scope="group") or of all of them in one ranking (scope="all"); biases and norms are left alone.
            criterion: what units are ranked by, `mrs` by default; what single weights are ranked by, `magnitude` by
                default, one of `deadhead.score_parameters`.
            criterion_options: its options; of single weights those of `deadhead.score_parameters`.
            compensate: what makes up for units that are closed: `mean` (bias propagation), `zero`, or another
                compensation of `deadhead.prune`, which changes the weights of those that read them; these changes are
                not taken back when the units are opened.
            compensate_options: the compensation's own options.
            scope: "group": what remains of each group; "all": of all units, or weights, in one ranking.
            samples: the maximum number of samples of `data` that are read.
            seed: of whatever is drawn at random.
            progress: called with (step, done, total).
            options: the other budgets and options of `deadhead.prune`: params=, macs=, memory=, max_loss_increase=,
                normalize=, rounds=, round_to=, min_units=, ...

        Returns:
            {group: the units that were closed now}; empty for single weights.

        Raises:
            BudgetError, DataError, LossError: as `deadhead.prune`; nothing is closed then.
        """
        if weights is not None:
            if units is not None or options:
                raise MaskError(
                    f"weights={weights} goes with no other budget or option of units "
                    f"({', '.join(['units'] * (units is not None) + list(options))}); call prune once for each."
                )
            closing = choose_weights(
                self, data, loss, weights, criterion or "magnitude", criterion_options, scope, samples, seed, progress
            )
            self.close_weights({name: ~closed for name, closed in closing.items()})
            return {}
        chosen = choose_units(
            self, data, loss, progress, units=units, criterion=criterion or "mrs", criterion_options=criterion_options,
            compensate=compensate, compensate_options=compensate_options, scope=scope, samples=samples, seed=seed,
            **options,
        )  # fmt: skip
        removed, change = self._agreed((chosen.plan.removed, chosen.compensation))
        new = self._new_units(removed)
        self._prove(new)
        if change is not None:
            self._change(change)
        self.close(new, reference=compensate if compensate == "mean" else "zero", data=chosen.batches)
        return {name: mask.nonzero()[:, 0].tolist() for name, mask in new.items()}

    def cut(
        self,
        data: Iterable[Any] | None = None,
        *,
        loss: Any = None,
        test: Iterable[Any] | None = None,
        inplace: bool = False,
        progress: Progress | None = None,
    ) -> Pruned:
        """Cut the closed units: a smaller dense network that computes what the masked one does, and is proved to.

        Single weights that are closed stay zero in it.

        Args:
            data: batches to prove and report on; by default those of the last `prune`, or the example.
            loss: the loss of the report; without data, how far outputs are from the masked network's.
            test: data that no decision saw, to report on.
            inplace: cut the module itself, and the optimizer with it. Training goes on with both; the masks are then
                of the smaller network, and later results count from the intact one.
            progress: called with (step, done, total).

        Returns:
            `Pruned`, as `deadhead.prune` gives it, with the optimizer cut along (a tuple of them where there are
            several).

        Raises:
            CutError: the units cannot be cut; the module is left as it was.
        """
        self._holding.check()
        return cut_masked(self, data, loss, test, inplace, progress)

    def state_dict(self) -> dict[str, Any]:
        """What is closed, what it was before, and what was cut in place: tensors and plain values, for a checkpoint
        beside those of the module and the optimizer."""
        return {
            "units": dict(self.units),
            "weights": dict(self._weights),
            "given": {
                name: {str(unit): each for (other, unit), each in self._given.items() if other == name}
                for name, _ in self._given
            },
            "added": list(self._added),
            "held": self._holding.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Close, and cut in place, what a checkpoint says; call it before the module's and the optimizer's own
        `load_state_dict`, which need the shapes that this gives them.

        Args:
            state: what `state_dict` gave, for masks of a network of the same class and size.

        Raises:
            MaskError: it belongs to another network.
        """
        if self.closed or self.history.removed:
            raise MaskError("These masks have closed units already; load a checkpoint into masks made anew.")
        self.history.load_state_dict(state["history"])
        surgery = Surgery.from_json(state["history"]["surgery"])
        if surgery.keep:
            for optimizer in self.optimizers:
                cut_in_place(optimizer, self.module, surgery)
            replaced = operate(self.module, surgery)
            for optimizer in self.optimizers:
                exchange(optimizer, replaced)
                adopt(optimizer, self.module, surgery)
            self._trace_again()
            self._start()
        missing = [name for name in state["added"] if name not in self.network.state()]
        change = Compensation()
        for name in missing:
            owner, _ = owner_of(self.module, name)
            change.biases[name] = torch.zeros(len(owner._parameters["weight"]))  # type: ignore[arg-type]
        self._change(change)
        sizes = {name: len(units) for name, units in self.units.items()}
        if {name: len(units) for name, units in state["units"].items()} != sizes:
            raise MaskError(
                f"The checkpoint is of masks of another network than this {type(self.module).__name__}: it has groups "
                f"{ {name: len(units) for name, units in state['units'].items()} }, and this one {sizes}."
            )
        self._prove({name: units for name, units in state["units"].items() if bool(units.any())})
        self.units = {name: units.clone() for name, units in state["units"].items()}
        tensors = self.network.state()
        self._weights = {name: closed.to(tensors[name].device) for name, closed in state["weights"].items()}
        self._given = {
            (name, int(unit)): dict(each)
            for name, of_units in state["given"].items()
            for unit, each in of_units.items()
        }
        self._hold()
        self._holding.load_state_dict(state["held"])

    def stop(self) -> None:
        """End: closed entries are zero as they stand, and no longer held."""
        self._holding.stop()

    def __enter__(self) -> Masks:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What follows is not for callers.

    def _first_name(self, name: str) -> str:
        """The first name of a tensor that modules share."""
        tensors = self.network.state()
        return next(each for each, tensor in tensors.items() if tensor is tensors[name])

    def _as_masks(self, units: Mapping[str, Sequence[int] | Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, given in units.items():
            if name not in self.units:
                raise MaskError(f"There is no group {name!r} to close; the groups are {', '.join(self.units)}.")
            mask = torch.zeros_like(self.units[name])
            index = torch.as_tensor(given)
            if index.dtype == torch.bool and index.shape == mask.shape:
                mask |= index.cpu()
            elif index.numel() and (
                index.is_floating_point() or index.dim() != 1 or int(index.min()) < 0 or int(index.max()) >= len(mask)
            ):
                raise MaskError(f"{name} has units 0 to {len(mask) - 1}, not {index.tolist()}.")
            elif index.numel():
                mask[index.cpu().long()] = True
            found[name] = mask
        return found

    def _new_units(self, units: Mapping[str, Sequence[int] | Tensor]) -> dict[str, Tensor]:
        """The units of these that are open."""
        new = {name: mask & ~self.units[name] for name, mask in self._as_masks(units).items()}
        for group in self.network.groups:
            if group.name in new and int((~(new[group.name] | self.units[group.name])).sum()) < group.minimum:
                raise MaskError(
                    f"Of the {group.size} units of {group.name} at least {group.minimum} must be open; close fewer."
                )
        return {name: mask for name, mask in new.items() if bool(mask.any())}

    def _prove(self, new: Mapping[str, Tensor]) -> None:
        """Show that zeros close units of these groups, once for each group."""
        self.network.prepare(self.network.example_call())
        groups = [group for group in self.network.groups if group.name in new and group.name not in self._spared]
        if groups:
            self._spared.update(spared_tensors(self.network, groups))

    def _read(self, data: Iterable[Any]) -> Sequence[Batch]:
        known = isinstance(data, list) and bool(data) and all(isinstance(batch, Batch) for batch in data)
        return data if known else read(data, samples=None, batch_axis=self.network.batch_axis)  # type: ignore[return-value]

    def example_batches(self) -> list[Batch]:
        """The example that the network was traced with, as a batch."""
        example = self.network.example_call()
        return [as_batch((example, None), batch_axis=self.network.batch_axis)]

    def follow(self, surgery: Surgery) -> None:
        """Follow a cut in place: what is closed now is closed in the smaller network."""
        self._holding.follow(surgery)
        self._weights = {name: pick(closed, surgery.keep.get(name, {})) for name, closed in self._weights.items()}
        self._given = {}
        self._trace_again()
        self._start()
        self._hold()

    def _propagate(self, new: Mapping[str, Tensor], batches: Sequence[Batch], progress: Progress | None) -> None:
        """Add what these units give on average to their consumers' biases."""
        groups = [group for group in self.network.groups if group.name in new]
        self.network.prepare(batches[0].inputs)
        consumers, self.refused = consumers_of(self.network, groups)
        tensors = self.network.frozen_state()
        names = [consumer.weight for consumer in consumers]
        means = patch_means(PrunedState.of(self.network).gates(), names, batches, progress)
        total: dict[str, Tensor] = {}
        for consumer in consumers:
            if consumer.weight not in means:
                continue
            for name in consumer.reads:
                for unit in new[name].nonzero()[:, 0].tolist() if name in new else ():
                    removed = {name: torch.tensor([unit])}
                    constant = contribution(consumer, tensors[consumer.weight], removed, means[consumer.weight])
                    self._given.setdefault((name, unit), {})[consumer.weight] = constant
                    total[consumer.weight] = total.get(consumer.weight, torch.zeros_like(constant)) + constant
        self._given, total = self._agreed((self._given, total))
        self._add_constants(total)

    def _agreed(self, value: Any) -> Any:
        """What the first of several processes that train together has found."""
        if not self._is_distributed:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def _add_constants(self, constants: Mapping[str, Tensor]) -> None:
        """Add constants, {weight: (outputs,)}, to what the consumers of these weights give."""
        if not constants:
            return
        change, tensors = Compensation(), self.network.frozen_state()
        for consumer in consumers_of(self.network, self.network.groups)[0]:
            if consumer.weight not in constants:
                continue
            if consumer.constant is None:
                self.refused[consumer.weight] = "it has no bias to which the constant could be added"
            elif consumer.constant.kind == "new" and self._is_distributed:
                self.refused[consumer.weight] = "it has no bias, and DistributedDataParallel knows of no new one"
            else:
                put_constant(change, consumer, constants[consumer.weight], tensors)
        self._change(change)

    @torch.no_grad()
    def _change(self, change: Compensation) -> None:
        """Give the module new weights and biases."""
        tensors = self.network.state()
        for name, value in change.tensors.items():
            tensors[name].detach().copy_(value)
            self._holding.hold(name)
        for name, value in change.biases.items():
            owner, leaf = owner_of(self.module, name)
            weight = owner._parameters["weight"]
            assert weight is not None
            setattr(owner, leaf, nn.Parameter(value.to(weight), weight.requires_grad))
            for optimizer in self.optimizers:
                adopt(optimizer, self.module, Surgery(biases={name: len(value)}))
            self._added.append(name)
        if change.biases:
            self._trace_again()

    def _trace_again(self) -> None:
        old = self.network
        self.network = trace(old.module, old.example_call(), batch_axis=old.batch_axis, width=old.width)

    def _hold(self, fresh: Callable[[str], Tensor] | None = None) -> None:
        entries = unit_entries(self.network, self.units, self._spared)
        self._holding.set(with_weights(entries, self._weights), fresh)

    def __str__(self) -> str:
        shares = []
        for name, units in self.units.items():
            shares.append(f"{name}: {int(units.sum())} of {counted(len(units), 'unit')} closed")
        for name, closed in self._weights.items():
            shares.append(f"{name}: {int(closed.sum()):,} of {counted(closed.numel(), 'weight')} closed")
        return "\n".join(shares) or "no group of units that could be closed"

    __repr__ = __str__


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile` and `DistributedDataParallel`."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _optimizers(given: Optimizer | Sequence[Optimizer] | None) -> tuple[Optimizer, ...]:
    found = () if given is None else (given,) if isinstance(given, Optimizer) else tuple(given)
    for each in found:
        if not isinstance(each, Optimizer):
            raise MaskError(
                f"optimizer is a {type(each).__name__}: give the torch.optim.Optimizer, or several of them."
            )
    return found
