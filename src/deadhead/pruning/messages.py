"""What a report, or an error, tells people about a prune, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx

from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan

FURTHER = (
    "its exported program has its sizes written down and can go further: prune(trace(model, inputs).program(), ...)"
)


def failed(network: Network, error: Exception) -> str:
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"The pruned {type(network.module).__name__} does not run ({type(error).__name__}: {message}); the model was "
        "left as it was. Exclude groups one by one to find which its forward cannot follow."
    )


def nothing(network: Network, left: dict[str, str]) -> str:
    name = type(network.module).__name__
    reasons, wide = left or network.fixed, network.freed_by_width()
    if not reasons:
        return f"{name} has no group of units that could be pruned."
    listed = "; ".join(f"{group}: {why}" for group, why in list(reasons.items())[:5])
    further = f"; {FURTHER}" if left and not isinstance(network.module, fx.GraphModule) else ""
    if wide:
        further += f"; width=True frees {', '.join(group.name for group in wide[:3])}, approximately"
    return f"Nothing in {name} can be cut: {listed}{further}."


def left_alone(network: Network, groups: Sequence[Group], left: dict[str, str]) -> list[tuple[str, str]]:
    pruned = {group.name for group in groups}
    listed = [
        (group.name, left.get(group.name, "excluded by the caller"))
        for group in network.groups
        if group.name not in pruned
    ]
    return listed + [(module, why) for module, why in network.fixed.items() if module not in pruned]


def unasked(widened: bool) -> list[str]:
    return ["nothing else can be cut, so the width was; width=False refuses instead"] if widened else []


def approximate(groups: Sequence[Group], plan: Plan, moved: float | None) -> list[str]:
    """What pruning the width did, for people."""
    if moved is None:
        return []
    names = ", ".join(group.name for group in groups if group.norms and group.name in plan.removed)
    return [
        f"approximate: normalisations went over all units of {names} and now go over what is left, which moves the "
        f"outputs by {moved:.2g} relative"
    ]


def further(network: Network, left: Mapping[str, str]) -> list[str]:
    """Where the class stood in the way, what can be done without it."""
    if not left or isinstance(network.module, fx.GraphModule):
        return []
    groups = "1 group was" if len(left) == 1 else f"{len(left)} groups were"
    return [f"{groups} left whole because the forward of {type(network.module).__name__} cannot follow; {FURTHER}"]


def notes(network: Network, compensation: Compensation, expressed: bool) -> list[str]:
    """What was not compensated, or from too little, what is new, what a configuration cannot say."""
    notes = [f"{weight} was not compensated: {why}" for weight, why in compensation.refused.items()]
    notes += [
        f"{weight} was fitted from {rows:,} rows and positions for {columns:,} columns, so its statistics are "
        "rank-deficient: only damping decides between some weights; more samples would help"
        for weight, (rows, columns) in compensation.scarce.items()
    ]
    notes += [
        f"{weight} was left as least squares had fitted it: {why}" for weight, why in compensation.unrefined.items()
    ]
    notes += [
        f"{weight} reads {columns:,} columns, too many for one matrix: it was fitted in {blocks} blocks, each by "
        "itself, so that units in one cannot take over for those in another"
        for weight, (columns, blocks) in compensation.blocked.items()
    ]
    notes += [
        f"{name} is a new bias: the constant that removed units gave needs a place" for name in compensation.biases
    ]
    if not expressed:
        notes.append(
            f"the configuration of {type(network.module).__name__} cannot say what is left: from_pretrained would not "
            "read what save_pretrained writes; use Pruned.save and deadhead.load"
        )
    if network.difference:
        notes.append(f"the traced graph differs from the module by {network.difference:.1e} relative")
    return notes
