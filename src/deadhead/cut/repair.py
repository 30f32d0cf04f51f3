"""Repairs: the numbers that a class's own forward reads, such as a count of heads, and that change when units are
removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from deadhead.cut.program import Rewrite
from deadhead.cut.surgery import read_number


@dataclass(frozen=True)
class Repair:
    """A number that is a multiple of the number of units of a group, and changes with it.

    Attributes:
        module: the module that holds it; in a traced program, the node that it is written down for.
        attribute: its name there (`config.heads` is held by a configuration); in a traced program, the argument's
            position.
        place: its entry where that is a tuple, else None.
        value: the number in the intact module.
        group: the name of the group.
        size: the number of units of the intact group.
    """

    module: str
    attribute: str
    place: int | None
    value: int
    group: str
    size: int

    def after(self, removed: int) -> int:
        """The number when so many units are removed."""
        return self.value // self.size * (self.size - removed)


def settings_for(
    module: nn.Module, repairs: Sequence[Repair], removed: Mapping[str, Tensor]
) -> list[tuple[str, str, Any]]:
    """The attributes of a module and its submodules that change when units are removed.

    Args:
        module: the intact module; of a traced program none change.
        repairs: the numbers that its forward reads.
        removed: {group: the units that are removed}.

    Returns:
        (path of the module, attribute, new value), as a `Surgery` holds them.
    """
    if isinstance(module, fx.GraphModule):
        return []
    settings: dict[tuple[str, str], Any] = {}
    for repair in repairs:
        count = len(removed.get(repair.group, ()))
        if count:
            key = (repair.module, repair.attribute)
            value = repair.after(count)
            if repair.place is not None:
                held = list(settings.get(key) or read_number(module.get_submodule(repair.module), repair.attribute))
                held[repair.place] = value
                value = tuple(held)  # type: ignore[assignment]
            settings[key] = value
    return [(path, attribute, value) for (path, attribute), value in settings.items()]


def rewrites_for(module: nn.Module, repairs: Sequence[Repair], removed: Mapping[str, Tensor]) -> list[Rewrite]:
    """The numbers in the graph of a traced program that change when units are removed.

    Args:
        module: the intact program; of any other module none change.
        repairs: the numbers that are written down in it.
        removed: {group: the units that are removed}.

    Returns:
        (node, argument position, new value), as a `Surgery` holds them.
    """
    if not isinstance(module, fx.GraphModule):
        return []
    nodes = {node.name: node for node in module.graph.nodes}
    changes: list[Rewrite] = []
    for repair in repairs:
        count = len(removed.get(repair.group, ()))
        if count:
            new: Any = repair.after(count)
            if repair.place is not None:
                held = nodes[repair.module].args[int(repair.attribute)]
                assert isinstance(held, (list, tuple))
                new = [new if place == repair.place else None for place in range(len(held))]
            changes.append((repair.module, int(repair.attribute), new))
    return changes
