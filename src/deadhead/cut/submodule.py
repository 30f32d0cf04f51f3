"""Trial cuts of one module inside a network: does it compute without some units what it computes with them at zero?"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from deadhead.cut.program import FILLED, rewrites, settings_of
from deadhead.cut.reads import Recording
from deadhead.cut.repair import Repair, rewrites_for, settings_for
from deadhead.cut.surgery import Surgery, copy_of, operate, owner_of, surgery_for
from deadhead.cut.verify import PROOF, floats, tolerance_of
from deadhead.data.calibration import Batch
from deadhead.gates.state import PrunedState
from deadhead.graph.agreement import relative_difference
from deadhead.graph.network import Network
from deadhead.graph.nodes import op_name
from deadhead.graph.pytree import take
from deadhead.graph.trace import batch_size, untouched
from deadhead.graph.units.groups import Group
from deadhead.select.plan import plan_of


class Submodule:
    """A module that holds all parameters of some groups of the same size, with one call of it.

    Names of tensors and modules are relative to it.

    Attributes:
        module: the module.
        size: the number of units of each group.
        uncallable: whether the call cannot be repeated.
    """

    def __init__(self, network: Network, path: str, call: tuple[Any, Any], groups: Sequence[Group], step: int) -> None:
        self.module = network.module.get_submodule(path)
        self.size = groups[0].size
        self.uncallable = False
        self._network, self._path, self._call, self._groups = network, path, call, groups
        self._tolerance = PROOF * tolerance_of(network.module)
        self._plans = _plans(groups, step)
        self._whole: list[Tensor] | None = None
        self._expected: dict[int, list[Tensor]] = {}

    def named(self, repairs: Sequence[Repair]) -> list[Repair]:
        """Repairs by their names in the whole network, one for each group."""
        return [
            Repair(".".join(filter(None, (self._path, r.module))), r.attribute, r.place, r.value, r.group, r.size)
            for r in repairs
        ]

    def try_with(self, repairs: Sequence[Repair]) -> str | None:
        """Why the module that is cut, with these repairs, does not compute what it computes with its units at zero;
        None where it does."""
        try:
            whole = self._outputs_of_whole()
        except Exception as error:  # the user's forward may raise anything
            self.uncallable = True
            return f"the module that holds it cannot be called on its own ({reason_of(error)})"
        for place, removed in enumerate(self._plans):
            if place not in self._expected:
                self._expected[place] = self._reference(removed)
            try:
                found = self._run(self._cut(removed, repairs))
            except Exception as error:
                return f"the class's own forward fails on it ({reason_of(error)})"
            pairs = [
                (ours, theirs)
                for ours, theirs, intact in zip(found, self._expected[place], whole, strict=True)
                if ours.shape == intact.shape
            ]
            if not pairs:
                return "the class's own forward gives it back in another shape"
            worst = max(relative_difference(ours, theirs) for ours, theirs in pairs)
            if not worst <= self._tolerance:
                return f"the class's own forward computes something else with it (by {worst:.1e} relative)"
        return None

    def decisions(self) -> list[list[Repair]]:
        """The numbers that forward reads and that may count the units. Those of one class with the same name and the
        same value are one decision; those of modules that hold parameters of the groups come before others."""
        if isinstance(self.module, fx.GraphModule):
            return self._literals(self.module)
        found: dict[tuple[bool, type, str, int | None, int], list[Repair]] = {}
        names = [part.parameter for group in self._groups for part in group.slices]
        with Recording(copy_of(self.module, share=True)) as (recording, reads):
            self._run(recording)
        for (path, attribute), (kind, value) in reads.items():
            for place, number in enumerate(value) if isinstance(value, (tuple, list)) else [(None, value)]:
                if number and number % self.size == 0:
                    repair = Repair(path, attribute, place, number, self._groups[0].name, self.size)
                    full = ".".join(filter(None, (self._path, path)))
                    apart = not any(f".{name}".startswith(f".{full}.".replace("..", ".")) for name in names)
                    found.setdefault((apart, kind, attribute, place, number), []).append(repair)
        return [found[key] for key in sorted(found, key=lambda key: key[0])]

    def _literals(self, program: fx.GraphModule) -> list[list[Repair]]:
        """The decisions for a traced program: the sizes of what it fills and expands, which no label follows."""
        found: dict[tuple[str, int, int | None, int], list[Repair]] = {}
        for node in program.graph.nodes:
            name = op_name(node) if node.op == "call_function" else ""
            if name in FILLED:
                position = FILLED[name]
                given = node.args[position] if len(node.args) > position else ()
                for place, number in enumerate(given) if isinstance(given, (tuple, list)) else [(None, given)]:
                    if isinstance(number, int) and number > 0 and number % self.size == 0:
                        repair = Repair(node.name, str(position), place, number, self._groups[0].name, self.size)
                        found.setdefault((name, position, place, number), []).append(repair)
        return list(found.values())

    def _outputs_of_whole(self) -> list[Tensor]:
        if self._whole is None:
            self._whole = self._run(copy_of(self.module, share=True))
        return self._whole

    def _run(self, module: nn.Module) -> list[Tensor]:
        args, kwargs = copied_call(self._call)
        with untouched(module):
            outputs = take(module(*args, **kwargs), opaque=True)[0]
        return [each for each in outputs if each.is_floating_point()]

    def _surgery(self, removed: Mapping[str, Tensor], repairs: Sequence[Repair] = ()) -> Surgery:
        """The surgery on this module alone."""
        network, prefix = self._network, f"{self._path}." if self._path else ""
        whole = surgery_for(network.module, self._groups, removed)
        whole.settings += settings_of(network.module, network.static, removed)
        if isinstance(self.module, fx.GraphModule):
            whole.rewrites = rewrites(self.module, network.static, removed)
            whole.rewrites += rewrites_for(self.module, repairs, removed)
            return whole
        keep = {name.removeprefix(prefix): axes for name, axes in whole.keep.items() if name.startswith(prefix)}
        settings = [
            (path.removeprefix(self._path).removeprefix("."), attribute, value)
            for path, attribute, value in whole.settings
            if not prefix or f"{path}.".startswith(prefix)
        ]
        return Surgery(keep, settings + settings_for(self.module, repairs, removed))

    def _cut(self, removed: Mapping[str, Tensor], repairs: Sequence[Repair]) -> nn.Module:
        module = copy_of(self.module, share=True)
        operate(module, self._surgery(removed, repairs))
        return module

    def _reference(self, removed: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs without the units' contributions: by gates where it is the whole network."""
        if self._path:
            return self._run(self._zeroed(removed))
        samples = batch_size(self._network.example, self._network.batch_axis)
        plan = plan_of([(name, int(unit)) for name, units in removed.items() for unit in units])
        return floats(
            PrunedState.of(self._network, plan).outputs(Batch(self._network.example_call(), None, None, samples))
        )

    def _zeroed(self, removed: Mapping[str, Tensor]) -> nn.Module:
        """The module with the units' contributions at zero: what their consumers read of them, or, where that is no
        weight, all of their slices (a weight that is divided by its norm cannot be zero)."""
        module = copy_of(self.module)
        reads = {(site.weight, site.weight_axis) for group in self._groups for site in group.consumers}
        prefix = f"{self._path}." if self._path else ""
        with torch.no_grad():
            for name, every in self._surgery(removed).keep.items():
                axes = {a: kept for a, kept in every.items() if (None, None) in reads or (prefix + name, a) in reads}
                owner, leaf = owner_of(module, name)
                tensor = getattr(owner, leaf)
                for axis, kept in axes.items():
                    is_removed = torch.ones(tensor.shape[axis], dtype=torch.bool)
                    is_removed[kept] = False
                    tensor.index_fill_(axis, is_removed.nonzero()[:, 0].to(tensor.device), 0)
        return module


def _plans(groups: Sequence[Group], step: int) -> list[dict[str, Tensor]]:
    """Units to remove in trial cuts: every other one, the first ones, all but one; the same number from each of the
    groups, such that a multiple of `step` remains."""
    size, maximum = groups[0].size, groups[0].size - max(group.minimum for group in groups)
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> dict[str, Tensor]:
        return {g.name: torch.randperm(size, generator=generator)[:count].sort().values for g in groups}

    if step > 1:
        kept = range(step, size, step)
        return [draw(size - kept[0]), draw(size - kept[len(kept) // 2]), draw(size - kept[-1])]
    if maximum < 1:
        return []
    first = {group.name: torch.arange(0, size - 1, 2)[:maximum] for group in groups}
    plans = [first, {group.name: torch.arange(min((size + 2) // 3, maximum)) for group in groups}, draw(maximum)]
    return [*plans, draw(min(max(1, size // 2), maximum))]


def copied_call(call: tuple[Any, Any]) -> tuple[Any, Any]:
    """A deep copy of the arguments of a call, as forward may write to them."""
    with torch.no_grad():
        return copy.deepcopy(call)


def reason_of(error: Exception) -> str:
    """The kind of an error of the user's own code, and the first line of its message."""
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{type(error).__name__}: {message}"
