"""The units and single weights of a network that are closed, and what is kept aside to open them again."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.cut.optimizer import adopt, cut_in_place, exchange
from deadhead.cut.surgery import Surgery, operate, owner_of, pick, remember, surgery_behind
from deadhead.data.calibration import Batch, as_batch, read
from deadhead.errors import DataError, MaskError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network, trace
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress
from deadhead.pruning.material import Material, Removable
from deadhead.reconstruction.compensation import Compensation, contribution, put_constant
from deadhead.reconstruction.consumers import consumers_of
from deadhead.reconstruction.sums import patch_means
from deadhead.select.plan import Plan, plan_of
from deadhead.training.masking.cuts import Cuts
from deadhead.training.masking.entries import spared_entries, spared_tensors, unit_entries, with_weights
from deadhead.training.masking.holding import Holding


def _shown(index: Tensor) -> str:
    return f"a mask of shape {tuple(index.shape)}" if index.dtype == torch.bool else str(index.tolist())


class Closed:
    """What is closed in a network that trains; `Masks` is its public face.

    Args:
        network: the traced network.
        optimizers: the optimizers that train its module.
        only: only groups whose module name matches one of these patterns can be closed.
        exclude: groups whose module name matches one of these patterns cannot be closed.
        is_distributed: whether other processes train the same network, in step.

    Attributes:
        units: {group: (K,)}, true where a unit is closed.
        weights: {parameter: true where a single weight is closed}.
        holding: the entries that are held at zero.
        given: {(group, unit): {weight: (outputs,)}}, what went into a consumer's bias in place of a closed unit.
        found: the units that masks of torch had closed before, as `indices`.
        refused: {what could not take a constant when its units were closed: why}.
        cuts: what was cut in place so far.
        material: what units were last chosen by; None before.
        removable: what can be cut from the network, once that was asked.
    """

    UNDISTURBED = True

    def __init__(
        self,
        network: Network,
        optimizers: tuple[Optimizer, ...],
        only: Sequence[str] = (),
        exclude: Sequence[str] = (),
        is_distributed: bool = False,
    ) -> None:
        self.network, self.optimizers = network, optimizers
        self.only, self.exclude = only, exclude
        self._is_distributed = is_distributed
        self.holding = Holding(network.module, optimizers)
        self.weights: dict[str, Tensor] = {}
        self.given: dict[tuple[str, int], dict[str, Tensor]] = {}
        self.found: dict[str, list[int]] = {}
        self.refused: dict[str, str] = {}
        self.cuts = Cuts()
        self.material: Material | None = None
        self.removable: Removable | None = None
        self._matched: set[str] = set()
        self._start()

    def _start(self) -> None:
        """No unit of the network as it stands is closed."""
        self.units = {group.name: torch.zeros(group.size, dtype=torch.bool) for group in self.groups}
        self.spared: dict[str, tuple[str, ...]] = {}

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups whose units can be closed."""
        only, origin = self.matching(self.only), self.cuts.origin
        found = self.network.select(only, self.matching(self.exclude)) if only or not self.only else ()
        if not origin:
            return found
        # the channels of a single head that is left are no units of the intact network, whatever their group's name
        return tuple(group for group in found if len(origin.get(group.name, ())) == group.size)

    def matching(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Those of some patterns of module names that match groups, without those of which one unit is left, which are
        no groups any more.

        Raises:
            DataError: where a pattern matched no group of the intact network either.
        """
        gone = [name for name in self.cuts.sizes if all(group.name != name for group in self.network.groups)]
        found = []
        for pattern in patterns:
            try:
                self.network.select([pattern])
            except DataError:
                if pattern not in self._matched and not any(fnmatch.fnmatch(name, pattern) for name in gone):
                    raise
                continue
            self._matched.add(pattern)
            found.append(pattern)
        return tuple(found)

    @property
    def module(self) -> nn.Module:
        """The module whose units are closed."""
        return self.network.module

    @property
    def indices(self) -> dict[str, list[int]]:
        """{group: its closed units}, for groups that have any."""
        return {name: units.nonzero()[:, 0].tolist() for name, units in self.units.items() if bool(units.any())}

    @property
    def keep(self) -> dict[str, Tensor]:
        """{tensor: true where an entry is not closed}, for tensors that have closed entries."""
        return {name: ~held.closed for name, held in self.holding.held.items()}

    @property
    def plan(self) -> Plan:
        """The closed units as a plan, group by group."""
        return plan_of([(name, unit) for name, units in self.indices.items() for unit in units])

    def first_name(self, name: str) -> str:
        """The first name of a tensor that modules share."""
        tensors = self.network.state()
        return next(each for each, tensor in tensors.items() if tensor is tensors[name])

    def as_masks(self, units: Mapping[str, Sequence[int] | Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, given in units.items():
            if name not in self.units:
                raise MaskError(f"There is no group {name!r} to close; the groups are {', '.join(self.units)}.")
            mask = torch.zeros_like(self.units[name])
            index = torch.as_tensor(given)
            if index.dtype == torch.bool and index.shape == mask.shape:
                mask |= index.cpu()
            elif index.numel() and (
                index.dtype not in (torch.int64, torch.int32)
                or index.dim() != 1
                or int(index.min()) < 0
                or int(index.max()) >= len(mask)
            ):
                raise MaskError(f"{name} has units 0 to {len(mask) - 1}, not {_shown(index)}.")
            elif index.numel():
                mask[index.cpu().long()] = True
            found[name] = mask
        return found

    def new_units(self, units: Mapping[str, Sequence[int] | Tensor]) -> dict[str, Tensor]:
        """The units of these that are open."""
        new = {name: mask & ~self.units[name] for name, mask in self.as_masks(units).items()}
        for group in self.network.groups:
            if group.name in new and int((~(new[group.name] | self.units[group.name])).sum()) < group.minimum:
                raise MaskError(
                    f"Of the {group.size} units of {group.name} at least {group.minimum} must be open; close fewer."
                )
        return {name: mask for name, mask in new.items() if bool(mask.any())}

    def prove(self, new: Mapping[str, Tensor]) -> None:
        """Show that zeros close units of these groups, once for each group."""
        self.network.prepare(self.network.example_call())
        groups = [group for group in self.network.groups if group.name in new and group.name not in self.spared]
        if groups:
            with self.holding.opened():
                self.spared.update(spared_tensors(self.network, groups))

    def read(self, data: Iterable[Any]) -> Sequence[Batch]:
        known = isinstance(data, list) and bool(data) and all(isinstance(batch, Batch) for batch in data)
        return data if known else read(data, samples=None, batch_axis=self.network.batch_axis)  # type: ignore[return-value]

    def example_batches(self) -> list[Batch]:
        """The example that the network was traced with, as a batch."""
        example = self.network.example_call()
        return [as_batch((example, None), batch_axis=self.network.batch_axis)]

    def follow(self, surgery: Surgery) -> None:
        """Follow a cut in place: what is closed now is closed in the smaller network."""
        self.holding.follow(surgery)
        self.weights = {name: pick(closed, surgery.keep.get(name, {})) for name, closed in self.weights.items()}
        self.given = {}
        self._trace_again()
        self._start()
        self.hold()

    def propagate(self, new: Mapping[str, Tensor], batches: Sequence[Batch], progress: Progress | None) -> None:
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
                    self.given.setdefault((name, unit), {})[consumer.weight] = constant
                    total[consumer.weight] = total.get(consumer.weight, torch.zeros_like(constant)) + constant
        self.given, total = self.agreed((self.given, total))
        self.add_constants(total)

    def agreed(self, value: Any) -> Any:
        """What the first of several processes that train together has found."""
        if not self._is_distributed:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def add_constants(self, constants: Mapping[str, Tensor]) -> None:
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
        self.change(change, adds=True)

    @torch.no_grad()
    def change(self, change: Compensation, *, adds: bool = False) -> None:
        """Give the module new weights and biases.

        Args:
            change: them.
            adds: whether they are the old ones with constants added, of which closed entries take their part.
        """
        tensors = self.network.state()
        for name, value in change.tensors.items():
            self.holding.write(self.first_name(name), tensors[name], value, adds=adds)
        for name, value in change.biases.items():
            owner, leaf = owner_of(self.module, name)
            weight = owner.get_parameter("weight")
            setattr(owner, leaf, nn.Parameter(value.to(weight), weight.requires_grad))
        if change.biases:
            self._follow(Surgery(biases={name: len(value) for name, value in change.biases.items()}))

    def _follow(self, surgery: Surgery) -> None:
        """Follow what was done to the module in place: with the optimizers, its memory and a new trace."""
        for optimizer in self.optimizers:
            adopt(optimizer, self.module, surgery)
        remember(self.module, surgery)
        self._trace_again()

    def _trace_again(self) -> None:
        old = self.network
        self.network = trace(old.module, old.example_call(), batch_axis=old.batch_axis, width=old.width)

    def hold(self, fresh: Callable[[str], Tensor] | None = None) -> None:
        entries = unit_entries(self.network, self.units, self.spared)
        spared = spared_entries(self.network, self.units, self.spared)
        self.holding.set(with_weights(entries, self.weights), fresh, spared)

    def state_dict(self) -> dict[str, Any]:
        """What is closed, what it was before, and what was cut in place: tensors and plain values, for a checkpoint
        beside those of the module and the optimizer."""
        return {
            "units": dict(self.units),
            "weights": dict(self.weights),
            "given": {
                name: {str(unit): each for (other, unit), each in self.given.items() if other == name}
                for name, _ in self.given
            },
            "held": self.holding.state_dict(),
            "cuts": asdict(self.cuts),
            "surgery": surgery_behind(self.module).to_json(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Close, and cut in place, what a checkpoint says; call it before the module's and the optimizer's own
        `load_state_dict`, which need the shapes that this gives them.

        Args:
            state: what `state_dict` gave, for masks of a network of the same class and size.

        Raises:
            MaskError: it belongs to another network.
        """
        if self.indices != self.found or self.cuts.removed:
            raise MaskError("These masks have closed units already; load a checkpoint into masks made anew.")
        surgery, behind = Surgery.from_json(state["surgery"]), surgery_behind(self.module)
        if surgery != behind:
            if behind != Surgery():
                raise MaskError(
                    f"This {type(self.module).__name__} was cut in another way than that of the checkpoint; give an "
                    "intact one."
                )
            for optimizer in self.optimizers:
                cut_in_place(optimizer, self.module, surgery)
            replaced = operate(self.module, surgery)
            for optimizer in self.optimizers:
                exchange(optimizer, replaced)
            self._follow(surgery)
        self.cuts, self.removable = Cuts.of(state["cuts"]), None
        if surgery != behind:
            self._start()
        sizes = {name: len(units) for name, units in self.units.items()}
        if {name: len(units) for name, units in state["units"].items()} != sizes:
            raise MaskError(
                f"The checkpoint is of masks of another network than this {type(self.module).__name__}: it has groups "
                f"{ {name: len(units) for name, units in state['units'].items()} }, and this one {sizes}."
            )
        self.prove({name: units for name, units in state["units"].items() if bool(units.any())})
        self.units = {name: units.clone() for name, units in state["units"].items()}
        tensors = self.network.state()
        self.weights = {name: closed.to(tensors[name].device) for name, closed in state["weights"].items()}
        self.given = {
            (name, int(unit)): dict(each)
            for name, of_units in state["given"].items()
            for unit, each in of_units.items()
        }
        self.hold()
        self.holding.load_state_dict(state["held"])
