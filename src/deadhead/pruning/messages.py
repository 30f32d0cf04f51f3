"""The sentences in which a report or an error describes a prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx

from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan
from deadhead.text import counted, listed

FURTHER = (
    "its exported program, whose graph has its sizes written down, can be pruned further: "
    "prune(trace(model, inputs).program(), ...)"
)


def failed(network: Network, error: Exception) -> str:
    """Why a pruned model was refused: it does not run."""
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"The pruned {type(network.module).__name__} does not run ({type(error).__name__}: {message}); the model was "
        "not changed. Exclude groups one by one to find which its forward cannot follow."
    )


def nothing(network: Network, left: dict[str, str]) -> str:
    """Why nothing can be pruned: the reason of each group, or of each module, and what would help."""
    name = type(network.module).__name__
    reasons, wide = left or network.fixed, network.freed_by_width()
    if not reasons:
        return f"{name} has no group of units that could be pruned."
    gathered: dict[str, list[str]] = {}
    for group, why in reasons.items():
        gathered.setdefault(why, []).append(group)
    shown = "; ".join(f"{listed(names, 3)}: {why}" for why, names in list(gathered.items())[:5])
    further = f"; {FURTHER}" if left and not isinstance(network.module, fx.GraphModule) else ""
    if wide:
        further += f"; width=True frees {listed([group.name for group in wide], 3)}, approximately"
    return f"Nothing in {name} can be cut: {shown}{further}."


def left_alone(network: Network, groups: Sequence[Group], left: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of a group or module that was not pruned, and the reason."""
    pruned = {group.name for group in groups}
    found = [
        (group.name, left.get(group.name, "excluded by the caller"))
        for group in network.groups
        if group.name not in pruned
    ]
    return found + [(module, why) for module, why in network.fixed.items() if module not in pruned]


def unasked(widened: bool) -> list[str]:
    """That the width was pruned without having been asked for."""
    return ["nothing else can be cut, so the width was; width=False refuses instead"] if widened else []


def approximate(groups: Sequence[Group], plan: Plan, moved: float | None) -> list[str]:
    """What pruning the width changed in normalisations, and by how much the outputs differ for it."""
    if moved is None:
        return []
    names = [group.name for group in groups if group.norms and group.name in plan.removed]
    return [
        f"approximate: normalisations took statistics over all units of {listed(names, 8)}, and now over the remaining "
        f"ones, which changes the outputs by {moved:.2g} relative"
    ]


def further(network: Network, left: Mapping[str, str]) -> list[str]:
    """How many groups could not be pruned because of the class's own forward, and what can be done about it."""
    if not left or isinstance(network.module, fx.GraphModule):
        return []
    groups, were = counted(len(left), "group"), "was" if len(left) == 1 else "were"
    return [
        f"{groups} {were} not pruned because the forward of {type(network.module).__name__} cannot follow; {FURTHER}"
    ]


def notes(network: Network, compensation: Compensation, expressed: bool) -> list[str]:
    """What was not compensated, or from too few samples; new biases; what a configuration cannot express."""
    notes = [f"{weight} was not compensated: {why}" for weight, why in compensation.refused.items()]
    notes += [
        f"{weight} was fitted from {counted(rows, 'sample or position', 'samples and positions')} for "
        f"{counted(columns, 'column')}, so its statistics are rank-deficient: only damping decides between some "
        "weights; more samples would help"
        for weight, (rows, columns) in compensation.scarce.items()
    ]
    notes += [
        f"{weight} was left as least squares had fitted it: {why}" for weight, why in compensation.unrefined.items()
    ]
    notes += [
        f"{weight} reads {counted(columns, 'column')}, too many for one matrix: it was fitted in "
        f"{counted(blocks, 'block')}, each by itself, so that units in one cannot compensate for those in another"
        for weight, (columns, blocks) in compensation.blocked.items()
    ]
    notes += [
        f"{name} is a new bias: it holds the constant that the removed units contributed"
        for name in compensation.biases
    ]
    if not expressed:
        notes.append(
            f"the configuration of {type(network.module).__name__} cannot say how many units remain: from_pretrained "
            "would not read what save_pretrained writes; use Pruned.save and deadhead.load"
        )
    if network.difference:
        notes.append(f"the traced graph differs from the module by {network.difference:.1e} relative")
    return notes
