"""Repair: the numbers that a class's own forward reads and that have to follow when units go, such as a count of heads.

That a cut module runs proves nothing. For each group the *home* is found, the deepest module that holds all of its
parameters; the home is called with the inputs it had in the network, once with the group's slices zeroed and once with
them cut. Where the two differ, the integers that its forward reads are recorded, and those that are multiples of the
number of units are tried, few at a time, until the cut home gives what the zeroed one does.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from deadhead.cut.program import FILLED, Rewrite, rewrites, settings_of
from deadhead.cut.surgery import Surgery, copy_of, operate, owner_of, read_number, surgery_for
from deadhead.cut.verify import PROOF, floats, tolerance_of
from deadhead.data.calibration import Batch
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network, relative_difference
from deadhead.graph.nodes import op_name
from deadhead.graph.pytree import take
from deadhead.graph.trace import batch_size, untouched
from deadhead.graph.units.groups import Group
from deadhead.select.plan import plan_of

TRIES = 400
"""How many sets of numbers are tried for a group in one home."""
STEP = 8
"""What fails with any other number of units is tried with multiples of this: some kernels want aligned sizes."""
MOST_TOGETHER = 4
"""How many numbers may have to change for one group."""


@dataclass(frozen=True)
class Repair:
    """A number that counts the units of `group`, `size` of them: `attribute` of `module` (`config.heads` is held by a
    configuration), entry `place` where that is a tuple; `value` while the group is whole. In a traced program, a number
    that is written down for argument `attribute` of the node `module`."""

    module: str
    attribute: str
    place: int | None
    value: int
    group: str
    size: int

    def after(self, removed: int) -> int:
        return self.value // self.size * (self.size - removed)


def settings_for(
    module: nn.Module, repairs: Sequence[Repair], removed: Mapping[str, Tensor]
) -> list[tuple[str, str, Any]]:
    """The attributes of `module` and its submodules that change when the units `removed[group]` go."""
    if isinstance(module, fx.GraphModule):
        return []
    settings: dict[tuple[str, str], Any] = {}
    for repair in repairs:
        gone = len(removed.get(repair.group, ()))
        if gone:
            key = (repair.module, repair.attribute)
            value = repair.after(gone)
            if repair.place is not None:
                held = list(settings.get(key) or read_number(module.get_submodule(repair.module), repair.attribute))
                held[repair.place] = value
                value = tuple(held)  # type: ignore[assignment]
            settings[key] = value
    return [(path, attribute, value) for (path, attribute), value in settings.items()]


def rewrites_for(module: nn.Module, repairs: Sequence[Repair], removed: Mapping[str, Tensor]) -> list[Rewrite]:
    """The numbers in the graph of a traced program that change when the units `removed[group]` go."""
    if not isinstance(module, fx.GraphModule):
        return []
    nodes = {node.name: node for node in module.graph.nodes}
    changes: list[Rewrite] = []
    for repair in repairs:
        gone = len(removed.get(repair.group, ()))
        if gone:
            new: Any = repair.after(gone)
            if repair.place is not None:
                held = nodes[repair.module].args[int(repair.attribute)]
                assert isinstance(held, (list, tuple))
                new = [new if place == repair.place else None for place in range(len(held))]
            changes.append((repair.module, int(repair.attribute), new))
    return changes


class Repairer:
    """Finds the repairs of groups; what worked for one home is tried first in the next of its class."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._parents = _callable_modules(network.module)
        self._calls = _captured(network, self._parents)
        self.multiples: dict[str, int] = {}
        self._worked: dict[tuple[type, int], list[tuple[tuple[str, str, int | None], ...]]] = {}

    def homes(self, groups: Sequence[Group]) -> list[str]:
        """The modules that hold all parameters of the groups and were called, deepest first."""
        names = [part.parameter for group in groups for part in group.slices]
        paths = [name.rpartition(".")[0].split(".") for name in names]
        if any(group.norms or any(site.among for site in group.consumers) for group in groups):
            return [""]  # only gates can say what a norm or a choice makes of what is left
        common = [parts[0] for parts in itertools.takewhile(lambda p: len(set(p)) == 1, zip(*paths, strict=False))]
        above = [".".join(common[:n]) for n in range(len(common), -1, -1)]
        return [path for path in dict.fromkeys(above) if path in self._calls]

    def find(self, groups: Sequence[Group], above: int = 0) -> tuple[list[Repair] | None, str]:
        """The repairs with which groups of one home can be cut, all losing the same number of units where there are
        several; None and the reason where none was found. The first `above` homes are passed over."""
        reason = ""
        for step in (1, STEP) if groups[0].size >= 2 * STEP else (1,):
            for path in self.homes(groups)[above : above + 3]:
                home = _Home(self._network, path, self._calls[path], groups, step)
                found, why = self._find_in(home)
                if found is not None:
                    if step > 1:
                        self.multiples.update((group.name, step) for group in groups)
                    return found, ""
                reason = reason or why
        return None, reason or "no module that holds it was called on its own"

    def _find_in(self, home: _Home) -> tuple[list[Repair] | None, str]:
        reason = home.try_with([])
        if reason is None:
            return [], ""
        if home.unfit:
            return None, reason
        decisions = home.decisions()
        key = (type(home.module), home.size)
        for known in self._worked.get(key, []):
            chosen = [d for d in decisions if any((r.module, r.attribute, r.place) in known for r in d)]
            if chosen and home.try_with([r for d in chosen for r in d]) is None:
                return home.named([r for d in chosen for r in d]), ""
        tries = 0
        for count in range(1, MOST_TOGETHER + 1):
            for subset in itertools.combinations(decisions, count):
                if (tries := tries + 1) > TRIES:
                    return None, reason
                repairs = [repair for decision in subset for repair in decision]
                if home.try_with(repairs) is None:
                    self._worked.setdefault(key, []).append(tuple((r.module, r.attribute, r.place) for r in repairs))
                    return home.named(repairs), ""
        return None, reason


class _Home:
    """A module that holds all parameters of some groups of the same size, with one call of it; names are relative."""

    def __init__(self, network: Network, path: str, call: tuple[Any, Any], groups: Sequence[Group], step: int) -> None:
        self.module = network.module.get_submodule(path)
        self.size = groups[0].size
        self.unfit = False
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
        """Why the cut home does not compute what the zeroed one does, or None where it does."""
        try:
            whole = self._outputs_of_whole()
        except Exception as error:  # the user's forward may raise anything
            self.unfit = True
            return f"its home cannot be called again ({_told(error)})"
        for place, removed in enumerate(self._plans):
            if place not in self._expected:
                self._expected[place] = self._reference(removed)
            try:
                found = self._run(self._cut(removed, repairs))
            except Exception as error:
                return f"the class's own forward fails on it ({_told(error)})"
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
        """The numbers that forward reads and that may count the units: those of one class with the same name and the
        same value are one decision, first for the modules that hold the groups' parameters, then for others."""
        if isinstance(self.module, fx.GraphModule):
            return self._literals(self.module)
        found: dict[tuple[bool, type, str, int | None, int], list[Repair]] = {}
        names = [part.parameter for group in self._groups for part in group.slices]
        with _Recording(copy_of(self.module, share=True)) as (recording, reads):
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
        """The same for a traced program: the sizes of what it fills and expands, which nothing else tells."""
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
        args, kwargs = _copied(self._call)
        with untouched(module):
            outputs = take(module(*args, **kwargs), opaque=True)[0]
        return [each for each in outputs if each.is_floating_point()]

    def _surgery(self, removed: Mapping[str, Tensor], repairs: Sequence[Repair] = ()) -> Surgery:
        """The surgery on the home alone."""
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
        """What the home gives without the units' contributions: by gates where it is the whole network."""
        if self._path:
            return self._run(self._zeroed(removed))
        rows = batch_size(self._network.example, self._network.batch_axis)
        plan = plan_of([(name, int(unit)) for name, units in removed.items() for unit in units])
        return floats(
            PrunedState.of(self._network, plan).outputs(Batch(self._network.example_call(), None, None, rows))
        )

    def _zeroed(self, removed: Mapping[str, Tensor]) -> nn.Module:
        """The home with the units' contributions at zero: what their consumers read of them, or, where that is no
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
                    gone = torch.ones(tensor.shape[axis], dtype=torch.bool)
                    gone[kept] = False
                    tensor.index_fill_(axis, gone.nonzero()[:, 0].to(tensor.device), 0)
        return module


def _plans(groups: Sequence[Group], step: int) -> list[dict[str, Tensor]]:
    """Units to remove: every other one, the first ones, all but one; the same number from each of the groups, such that
    a multiple of `step` is left."""
    size, most = groups[0].size, groups[0].size - max(group.minimum for group in groups)
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> dict[str, Tensor]:
        return {g.name: torch.randperm(size, generator=generator)[:count].sort().values for g in groups}

    if step > 1:
        kept = range(step, size, step)
        return [draw(size - kept[0]), draw(size - kept[len(kept) // 2]), draw(size - kept[-1])]
    if most < 1:
        return []
    first = {group.name: torch.arange(0, size - 1, 2)[:most] for group in groups}
    plans = [first, {group.name: torch.arange(min((size + 2) // 3, most)) for group in groups}, draw(most)]
    return [*plans, draw(min(max(1, size // 2), most))]


def _callable_modules(module: nn.Module) -> list[str]:
    """The paths of modules that can be called: lists and dicts of modules cannot."""
    return [path for path, each in module.named_modules() if type(each).forward is not nn.Module.forward]


def _captured(network: Network, paths: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """The first call of each module while the network runs on its example; copies, as forward may write to them."""
    calls: dict[str, tuple[Any, Any]] = {}
    handles = []
    for path in paths:

        def keep(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            if path not in calls:
                try:
                    calls[path] = _copied((args, kwargs))
                except Exception:  # an input that cannot be copied: this module is no home
                    return

        handles.append(network.module.get_submodule(path).register_forward_pre_hook(keep, with_kwargs=True))
    try:
        network.run_module(network.example_call())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _copied(call: tuple[Any, Any]) -> tuple[Any, Any]:
    with torch.no_grad():
        return copy.deepcopy(call)


Reads = dict[tuple[str, str], tuple[type, Any]]


class _Recording:
    """While it lasts, every int and tuple of ints that is read from a module or from an object it holds is kept, by
    (path, attribute): the class it was read from and the value."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._changed: list[tuple[Any, type]] = []
        self._reads: Reads = {}

    def __enter__(self) -> tuple[nn.Module, Reads]:
        for path, each in self._module.named_modules():
            if not type(each).__module__.startswith("torch.nn.modules"):
                self._record(each, type(each), [(path, "")])
            held: dict[int, tuple[Any, list[tuple[str, str]]]] = {}
            for name, value in vars(each).items():
                if _holds_numbers(value):
                    held.setdefault(id(value), (value, []))[1].append((path, f"{name}."))
            for value, places in held.values():
                self._record(value, type(each), places)
        return self._module, self._reads

    def __exit__(self, *_: object) -> None:
        for value, kind in self._changed:
            object.__setattr__(value, "__class__", kind)

    def _record(self, value: Any, owner: type, places: list[tuple[str, str]]) -> None:
        kind, reads = type(value), self._reads
        known = getattr(kind, "_deadhead_places", None)
        if known is not None and kind.__dict__.get("_deadhead_object") is value:
            known.extend(places)
            return

        def read(self: Any, name: str) -> Any:
            found: Any = kind.__getattribute__(self, name)  # type: ignore[call-arg]
            if not name.startswith("_") and _is_number(found) and not isinstance(getattr(kind, name, None), property):
                for path, prefix in type(self)._deadhead_places:
                    reads.setdefault((path, prefix + name), (owner, found))
            return found

        body = {
            "__getattribute__": read,
            "_deadhead_places": list(places),
            "_deadhead_object": value,
            "__module__": kind.__module__,
        }
        try:
            object.__setattr__(value, "__class__", type(kind.__name__, (kind,), body))
        except TypeError:  # a class whose objects cannot change theirs: its numbers stay unknown
            return
        self._changed.append((value, kind))


def _holds_numbers(value: Any) -> bool:
    """Whether a module's attribute is an object of a user's class, such as a configuration."""
    if isinstance(value, (nn.Module, Tensor, type)) or not hasattr(value, "__dict__") or callable(value):
        return False
    return not type(value).__module__.startswith(("torch", "builtins", "collections"))


def _is_number(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return 0 < len(value) <= 16 and all(_is_number(item) and isinstance(item, int) for item in value)
    return isinstance(value, int) and not isinstance(value, bool)


def _told(error: Exception) -> str:
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{type(error).__name__}: {message}"
