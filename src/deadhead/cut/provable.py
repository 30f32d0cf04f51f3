"""Which groups can be cut from the user's class, shown by trial cuts on copies."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from deadhead.cut.cut import carry_out, surgery_of
from deadhead.cut.repair import Repair
from deadhead.cut.repairer import Repairer
from deadhead.cut.submodule import reason_of
from deadhead.cut.surgery import copy_of
from deadhead.cut.verify import PROOF, tolerance_of, verify
from deadhead.data.calibration import Batch
from deadhead.errors import TraceError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.graph.trace import batch_size, rows_of
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress, track
from deadhead.select.plan import Plan, plan_of


@dataclass(frozen=True)
class Cutting:
    """What can be cut from the user's class.

    Attributes:
        groups: the groups that can be cut.
        refused: {each other group: why it cannot be cut}.
        repairs: the numbers of the class that change with them.
        ties: groups that can only lose the same number of units.
        multiples: {group: a number of which multiples must remain}.
    """

    groups: tuple[Group, ...]
    refused: dict[str, str] = field(default_factory=dict)
    repairs: tuple[Repair, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    multiples: Mapping[str, int] = field(default_factory=dict)


Item = tuple[Group, ...]
"""A group, or several that lose the same number of units."""


def cuttable(network: Network, groups: Sequence[Group], progress: Progress | None = None) -> Cutting:
    """Find which groups can be cut from the user's class, by cutting units of each on a copy and running it.

    Where the class does not follow by itself, the numbers that its forward reads are repaired, group by group, and the
    trials of all groups are repeated; what still fails is refused, with the reason.

    Args:
        network: the intact network.
        groups: the groups in question.
        progress: called with (step, done, total).
    """
    example = example_batch(network)
    if not groups or _trials(network, [(group,) for group in groups], example, {}, {}) is None:
        return Cutting(tuple(groups))
    repairer = Repairer(network)
    repairs: dict[Item, list[Repair]] = {}
    refused: dict[str, str] = {}
    for group in track(progress, "trial cuts", groups):
        found, reason = repairer.find([group])
        if found is None:
            refused[group.name] = reason
        else:
            repairs[(group,)] = found
    _refuse_wrong(network, repairer, repairs, refused, example)
    for item in _together([group for group in groups if group.name in refused]):
        if all(group.name in refused for group in item):
            found, _ = repairer.find(item)
            if found is not None and _trials(network, [item], example, {item: found}, repairer.multiples) is None:
                repairs[item] = found
                for group in item:
                    del refused[group.name]
    _refuse_clashing(network, repairer, repairs, refused, example)
    good = {group.name for item in repairs for group in item}
    return Cutting(
        tuple(group for group in groups if group.name in good),
        refused,
        tuple(repair for found in repairs.values() for repair in found),
        tuple(tuple(group.name for group in item) for item in repairs if len(item) > 1),
        {name: multiple for name, multiple in repairer.multiples.items() if name in good},
    )


def example_batch(network: Network) -> Batch:
    """The inputs that the network was traced with, with one sample more."""
    samples = batch_size(network.example, network.batch_axis)
    index = torch.arange(samples + 1) % samples
    return Batch(network.example_call(rows_of(network.example, network.batch_axis, index)), None, None, samples + 1)


def _together(failed: Sequence[Group]) -> list[Item]:
    """Groups of one size that cannot be cut alone: all of them, any two of a few, and those of one kind of layer, whose
    names differ in numbers only."""
    alike: dict[tuple[object, ...], list[Group]] = {}
    for group in failed:
        alike.setdefault((group.size,), []).append(group)
        alike.setdefault((group.size, re.sub(r"\d+", "*", group.name)), []).append(group)
    found: list[Item] = []
    for members in alike.values():
        if len(members) > 2:
            found.append(tuple(members))
        if len(members) <= 8:
            found += itertools.combinations(members, 2)
    return list(dict.fromkeys(found))


def _refuse_wrong(
    network: Network, repairer: Repairer, repairs: dict[Item, list[Repair]], refused: dict[str, str], example: Batch
) -> None:
    """Show that what was repaired module by module is right in the whole network, or repair it in a module further
    out; refuse what is not."""
    multiples = repairer.multiples
    if not repairs or _trials(network, list(repairs), example, repairs, multiples) is None:
        return
    for item in list(repairs):
        reason = _trials(network, [item], example, repairs, multiples)
        if reason is not None:
            found, _ = repairer.find(item, above=1)
            if found is not None:
                repairs[item] = found
                reason = _trials(network, [item], example, repairs, multiples)
        if reason is not None:
            del repairs[item]
            refused.update((group.name, reason) for group in item)


def _refuse_clashing(
    network: Network, repairer: Repairer, repairs: dict[Item, list[Repair]], refused: dict[str, str], example: Batch
) -> None:
    """Refuse items from the end until all others can be cut together."""
    while (
        len(repairs) > 1
        and (reason := _trials(network, list(repairs), example, repairs, repairer.multiples)) is not None
    ):
        item = list(repairs)[-1]
        del repairs[item]
        refused.update((group.name, f"it cannot be cut together with the other groups: {reason}") for group in item)


def _trials(
    network: Network,
    items: Sequence[Item],
    example: Batch,
    repairs: Mapping[Item, Sequence[Repair]],
    multiples: Mapping[str, int],
) -> str | None:
    """Why one of several cuts of these groups is not right, or None where all are.

    First every other unit, the first ones, random ones and all but one are removed from all groups: a forward that
    halves an axis follows the first, one that counts from the front the second, and rounding hides what a single unit
    does. Then, for any two groups that are not tied, there is a cut of one without the other: they may have been equal
    in number only by chance. Where they lie along the same axis of a parameter, a forward that splits it in halves can
    hide that (a chunk rounds up), so that both are cut without the other, by few units and by many.
    """
    generator = torch.Generator().manual_seed(0)
    groups = [group for item in items for group in item]
    repair = [each for item in items for each in repairs.get(item, ())]

    def draw(part: Sequence[Item], maximum: bool) -> Plan:
        order = []
        for item in part:
            size, step = item[0].size, multiples.get(item[0].name, 1)
            minimum = max(group.minimum for group in item)
            remaining = range(-(-minimum // step) * step, size, step)
            place = 0 if maximum else int(torch.randint(len(remaining), (), generator=generator))
            count = size - remaining[place]
            order += [
                (group.name, int(unit)) for group in item for unit in torch.randperm(size, generator=generator)[:count]
            ]
        return plan_of(order)

    free = [group for group in groups if group.name not in multiples]
    plans = [
        plan_of([(g.name, unit) for g in free for unit in range(0, g.size - 1, 2)[: g.size - g.minimum]]),
        plan_of([(g.name, unit) for g in free for unit in range(min((g.size + 2) // 3, g.size - g.minimum))]),
        draw(items, maximum=False),
        draw(items, maximum=True),
    ]
    plans += [
        draw([item for place, item in enumerate(items) if place >> bit & 1], maximum=bool(bit % 2))
        for bit in range((len(items) - 1).bit_length())
    ]
    beside = _sharing(items)
    for bit in range((len(beside) - 1).bit_length() if beside else 0):
        for side in (0, 1):
            part = [item for place, item in enumerate(beside) if place >> bit & 1 == side]
            plans += [draw(part, maximum=False), draw(part, maximum=True)]
    for plan in plans:
        reason = _trial(network, plan, example, repair)
        if reason is not None:
            return reason
    return None


def _sharing(items: Sequence[Item]) -> list[Item]:
    """The items that lie along an axis of a parameter along which others lie too."""
    there: dict[tuple[str, int], set[Item]] = {}
    for item in items:
        for group in item:
            for part in group.slices:
                there.setdefault((part.parameter, part.axis), set()).add(item)
    found = set().union(*(each for each in there.values() if len(each) > 1))
    return [item for item in items if item in found]


def _trial(network: Network, plan: Plan, example: Batch, repairs: Sequence[Repair]) -> str | None:
    """Why a cut is not right, or None where it is."""
    try:
        module = copy_of(network.module, share=True)
        carry_out(module, surgery_of(network, plan, repairs=repairs))
        difference = verify(PrunedState.of(network, plan), module, [example])
    except TraceError:
        raise
    except Exception as error:  # the user's forward may raise anything on tensors that it did not expect
        return f"the class's own forward fails on it ({reason_of(error)})"
    if not difference <= PROOF * tolerance_of(network.module):
        return f"the class's own forward computes something else with it (by {difference:.1e} relative)"
    return None
