"""`Masks`: units and single weights of a network that trains, closed and opened in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.cut.optimizer import check_optimizer
from deadhead.errors import MaskError
from deadhead.graph.network import Network, trace
from deadhead.progress import Progress
from deadhead.pruning.pruned import Pruned
from deadhead.text import counted
from deadhead.training.fresh import fresh_values
from deadhead.training.masking.choose import choose_units, choose_weights, removable_of
from deadhead.training.masking.closed import Closed
from deadhead.training.masking.cutting import cut_masked
from deadhead.training.masking.torch_masks import follow_in_torch, read_masks, write_masks
from deadhead.training.wrapped import distributed_wrapper, retire, unwrapped

HOW = ("as it was", "anew")
"""What units that are opened start from."""


class Masks:
    """Close units or single weights of a network while it trains, in place; open them again, or cut them.

    A closed unit's entries in all tensors (incoming and outgoing weights, bias, batch norm and its statistics) are
    zero, and remain so to the bit whatever the optimizer does: their gradients are zero as they accumulate, the
    entries are zero after every step, and the optimizer's state at these entries is kept aside. Nothing is copied: the
    module and the optimizer are the caller's own, and training goes on in the caller's loop. With `torch.compile` and
    `DistributedDataParallel`, give either the module or its wrapper. What masks of `torch.nn.utils.prune` close is
    closed here too, from the start.

    Args:
        model_or_network: the module, or a `Network` that was traced from it.
        optimizer: the optimizer that trains it, several of them, or None where nothing trains it.
        example: what the module is called with, as for `deadhead.trace`; not needed with a `Network`.
        only: only groups whose module name matches one of these patterns can be closed.
        exclude: groups whose module name matches one of these patterns cannot be closed.
        distributed: whether other processes train the same network in step with this one, so that they have to close
            the same units; by default, where the module is given in `DistributedDataParallel`.

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

    UNDISTURBED = True

    def __init__(
        self,
        model_or_network: nn.Module | Network,
        optimizer: Optimizer | Sequence[Optimizer] | None,
        *,
        example: Any = None,
        only: Sequence[str] = (),
        exclude: Sequence[str] = (),
        distributed: bool | None = None,
    ) -> None:
        optimizers = _optimizers(optimizer)
        if isinstance(model_or_network, Network):
            network = model_or_network
        else:
            module = unwrapped(model_or_network)
            if example is None:
                raise MaskError(
                    f"{type(module).__name__} has to be traced to find its units; give example=inputs, what it is "
                    "called with, or a deadhead.trace(model, inputs) in place of the module."
                )
            network = trace(module, example)
        for each in optimizers:
            check_optimizer(each, network.module)
        self._wrapper = distributed_wrapper(model_or_network)
        if distributed is None:
            distributed = self._wrapper is not None
        self._closed = Closed(network, optimizers, only, exclude, distributed)
        read_masks(self._closed)

    @property
    def network(self) -> Network:
        """The traced network, of the module as it is now."""
        return self._closed.network

    @property
    def module(self) -> nn.Module:
        """The module whose units are closed."""
        return self._closed.module

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers that train it."""
        return self._closed.optimizers

    @property
    def closed(self) -> dict[str, list[int]]:
        """{group: its closed units}, for groups that have any."""
        return self._closed.indices

    @property
    def units(self) -> dict[str, Tensor]:
        """{group: (K,)}, true where a unit is closed."""
        return dict(self._closed.units)

    @property
    def keep(self) -> dict[str, Tensor]:
        """{tensor: true where an entry is not closed}, for tensors that have closed entries."""
        return self._closed.keep

    @property
    def refused(self) -> dict[str, str]:
        """{consumer that could not take a constant when units were closed: why}."""
        return dict(self._closed.refused)

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
        closed = self._closed
        closed.holding.check()
        new = closed.new_units(units)
        closed.prove(new)
        if reference == "mean" and new:
            closed.propagate(new, closed.example_batches() if data is None else closed.read(data), progress)
        for name, closing in new.items():
            closed.units[name] = closed.units[name] | closing
        closed.hold()

    def close_weights(self, keep: Mapping[str, Tensor]) -> None:
        """Close single weights.

        Args:
            keep: {parameter: bool tensor of its shape, true where a weight stays}; replaces what was said of these
                parameters before, other parameters stay as they are.

        Raises:
            MaskError: there is no such parameter, or the shapes differ.
        """
        closed, tensors = self._closed, self.network.state()
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
            closed.weights[closed.first_name(name)] = ~kept.to(tensors[name].device)
        closed.hold()
        follow_in_torch(closed.holding, closed.weights)

    def open(
        self, units: Mapping[str, Sequence[int] | Tensor] | None = None, how: str = "as it was", *, seed: int = 0
    ) -> None:
        """Open closed units again.

        Args:
            units: {group: its units} as in `close`; all closed units by default.
            how: "as it was": with the weights and the optimizer's state that they had when they were closed, and
                without what went into their consumers' biases in their place; "anew": initialised as their layers
                would be, with the optimizer's state at zero.
            seed: of what is initialised anew.

        Raises:
            MaskError: a unit is not closed.
        """
        if how not in HOW:
            raise MaskError(f"There is no way {how!r} to open units; the ways are {' and '.join(HOW)}.")
        closed = self._closed
        opening = closed.as_masks(self.closed if units is None else units)
        for name, chosen in opening.items():
            if bool((chosen & ~closed.units[name]).any()):
                wrong = (chosen & ~closed.units[name]).nonzero()[:, 0].tolist()
                raise MaskError(f"{counted(len(wrong), 'unit')} of {name} to open not closed: {wrong}.")
        for name, chosen in opening.items():
            closed.units[name] = closed.units[name] & ~chosen
        generator = torch.Generator().manual_seed(seed)
        closed.hold(None if how == "as it was" else lambda name: fresh_values(self.module, name, generator))
        back: dict[str, Tensor] = {}
        for name, chosen in opening.items():
            for unit in chosen.nonzero()[:, 0].tolist():
                for weight, constant in closed.given.pop((name, unit), {}).items():
                    back[weight] = back[weight] - constant if weight in back else -constant
        closed.add_constants(back)

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
        samples: int = 512,
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
        closed = self._closed
        if weights is not None:
            if units is not None or options:
                raise MaskError(
                    f"weights={weights} goes with no other budget or option of units "
                    f"({', '.join(['units'] * (units is not None) + list(options))}); call prune once for each."
                )
            closing = choose_weights(
                closed, data, loss, weights, criterion or "magnitude", criterion_options, scope, samples, seed, progress
            )
            closing = closed.agreed(closing)
            self.close_weights({name: ~chosen for name, chosen in closing.items()})
            return {}
        chosen = choose_units(
            closed, data, loss, progress, units=units, criterion=criterion or "mrs",
            criterion_options=criterion_options, compensate=compensate, compensate_options=compensate_options,
            scope=scope, samples=samples, seed=seed, **options,
        )  # fmt: skip
        removed, change = closed.agreed((chosen.plan.removed, chosen.compensation))
        new = closed.new_units(removed)
        closed.prove(new)
        if change is not None:
            closed.change(change)
        self.close(new, reference=compensate if compensate == "mean" else "zero", data=chosen.batches)
        return {name: mask.nonzero()[:, 0].tolist() for name, mask in new.items()}

    def prepare(self, data: Iterable[Any], progress: Progress | None = None) -> None:
        """Trace the network for inputs like these, and find which of its units can be cut: what the first `prune` would
        do, so that it takes no longer than the others.

        Args:
            data: any iterable of batches, of which the first is read.
            progress: called with (step, done, total).
        """
        removable_of(self._closed, self._closed.read(data), progress)

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
                of the smaller network, and later results count from the intact one. `DistributedDataParallel` has to be
                made anew around it.
            progress: called with (step, done, total).

        Returns:
            `Pruned`, as `deadhead.prune` gives it, with the optimizer cut along (a tuple of them where there are
            several).

        Raises:
            CutError: the units cannot be cut; the module is left as it was.
        """
        self._closed.holding.check()
        pruned = cut_masked(self._closed, data, loss, test, inplace, progress)
        if inplace and self._wrapper is not None and pruned.surgery.keep:
            retire(self._wrapper)
            self._wrapper = None
        return pruned

    def state_dict(self) -> dict[str, Any]:
        """What is closed, what it was before, and what was cut in place: tensors and plain values, for a checkpoint
        beside those of the module and the optimizer."""
        return self._closed.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Close, and cut in place, what a checkpoint says; call it before the module's and the optimizer's own
        `load_state_dict`, which need the shapes that this gives them.

        Args:
            state: what `state_dict` gave, for masks of a network of the same class and size.

        Raises:
            MaskError: it belongs to another network, or something is closed already.
        """
        self._closed.load_state_dict(state)

    def to_torch_prune(self) -> nn.Module:
        """Write what is closed as masks of `torch.nn.utils.prune`, for tools that read those, and end, as `stop` does.

        Entries that are closed remain zero as training goes on. Parameters keep their objects and get torch's names
        (`weight_orig`). New masks of the module find what is closed, but not what it was before.

        Returns:
            The module.

        Raises:
            MaskError: the module does not read a parameter by its name, so that torch's masks cannot close it.

        Example:
            >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
            >>> masks = Masks(model, None, example=torch.randn(8, 2))
            >>> masks.close({"0": [1]})
            >>> masks.to_torch_prune()[0].weight_mask
            tensor([[1., 1.],
                    [0., 0.],
                    [1., 1.]])
            >>> Masks(model, None, example=torch.randn(8, 2)).closed
            {'0': [1]}
        """
        write_masks(self.network, self._closed.holding)
        return self.module

    def stop(self) -> None:
        """End: closed entries are zero as they stand, and no longer held."""
        self._closed.holding.stop()

    def __enter__(self) -> Masks:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        shares = []
        for name, units in self.units.items():
            shares.append(f"{name}: {int(units.sum())} of {counted(len(units), 'unit')} closed")
        for name, closed in self._closed.weights.items():
            shares.append(f"{name}: {int(closed.sum()):,} of {counted(closed.numel(), 'weight')} closed")
        return "\n".join(shares) or "no group of units that could be closed"

    __repr__ = __str__


def _optimizers(given: Optimizer | Sequence[Optimizer] | None) -> tuple[Optimizer, ...]:
    found = () if given is None else (given,) if isinstance(given, Optimizer) else tuple(given)
    for each in found:
        if not isinstance(each, Optimizer):
            raise MaskError(
                f"optimizer is a {type(each).__name__}: give the torch.optim.Optimizer, or several of them."
            )
    return found
