"""Finding repairs: which numbers that a class's own forward reads have to change when units are removed.

That a module runs after a cut proves nothing. For each group, the deepest module that holds all of its parameters is
called with the inputs that it had in the network, once with the group's slices at zero and once with them cut. Where
the two differ, the integers that its forward reads are recorded, and those that are multiples of the number of units
are tried, few at a time, until the cut module computes what the one with zeros does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import nn

from deadhead.cut.repair import Repair
from deadhead.cut.submodule import Submodule, copied_call
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group

TRIES = 400
"""The maximum number of sets of numbers that are tried for a group in one module."""
STEP = 8
"""What fails with any other number of units is tried with multiples of this: some kernels want aligned sizes."""
MOST_TOGETHER = 4
"""The maximum number of numbers that may have to change for one group."""


class Repairer:
    """Finds the repairs of groups. What worked in one module is tried first in the next of its class.

    Attributes:
        multiples: {group: a number of which multiples must remain}, for groups that could only be cut so.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._parents = _callable_modules(network.module)
        self._calls = _captured(network, self._parents)
        self.multiples: dict[str, int] = {}
        self._worked: dict[tuple[type, int], list[tuple[tuple[str, str, int | None], ...]]] = {}

    def submodules(self, groups: Sequence[Group]) -> list[str]:
        """The paths of the modules that hold all parameters of the groups and were called, deepest first."""
        names = [part.parameter for group in groups for part in group.slices]
        paths = [name.rpartition(".")[0].split(".") for name in names]
        if any(group.norms or any(site.among for site in group.consumers) for group in groups):
            return [""]  # only gates can say what a norm or a choice makes of what remains
        common = [parts[0] for parts in itertools.takewhile(lambda p: len(set(p)) == 1, zip(*paths, strict=False))]
        above = [".".join(common[:n]) for n in range(len(common), -1, -1)]
        return [path for path in dict.fromkeys(above) if path in self._calls]

    def find(self, groups: Sequence[Group], above: int = 0) -> tuple[list[Repair] | None, str]:
        """The repairs with which groups can be cut; None and the reason where none were found.

        Args:
            groups: one group, or several that lose the same number of units.
            above: how many of the modules that hold them are skipped, deepest first.
        """
        reason = ""
        for step in (1, STEP) if groups[0].size >= 2 * STEP else (1,):
            for path in self.submodules(groups)[above : above + 3]:
                submodule = Submodule(self._network, path, self._calls[path], groups, step)
                found, why = self._find_in(submodule)
                if found is not None:
                    if step > 1:
                        self.multiples.update((group.name, step) for group in groups)
                    return found, ""
                reason = reason or why
        return None, reason or "no module that holds it was called on its own"

    def _find_in(self, submodule: Submodule) -> tuple[list[Repair] | None, str]:
        reason = submodule.try_with([])
        if reason is None:
            return [], ""
        if submodule.uncallable:
            return None, reason
        decisions = submodule.decisions()
        key = (type(submodule.module), submodule.size)
        for known in self._worked.get(key, []):
            chosen = [d for d in decisions if any((r.module, r.attribute, r.place) in known for r in d)]
            if chosen and submodule.try_with([r for d in chosen for r in d]) is None:
                return submodule.named([r for d in chosen for r in d]), ""
        tries = 0
        for count in range(1, MOST_TOGETHER + 1):
            for subset in itertools.combinations(decisions, count):
                if (tries := tries + 1) > TRIES:
                    return None, reason
                repairs = [repair for decision in subset for repair in decision]
                if submodule.try_with(repairs) is None:
                    self._worked.setdefault(key, []).append(tuple((r.module, r.attribute, r.place) for r in repairs))
                    return submodule.named(repairs), ""
        return None, reason


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
                    calls[path] = copied_call((args, kwargs))
                except Exception:  # an input that cannot be copied: this module is not tried
                    return

        handles.append(network.module.get_submodule(path).register_forward_pre_hook(keep, with_kwargs=True))
    try:
        network.run_module(network.example_call())
    finally:
        for handle in handles:
            handle.remove()
    return calls
