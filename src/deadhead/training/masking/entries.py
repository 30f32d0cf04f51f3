"""Which entries of a network's tensors belong to units that are closed, and whether zeros there close them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from deadhead.cut.provable import example_batch
from deadhead.cut.verify import PROOF, floats, tolerance_of
from deadhead.data.calibration import Batch
from deadhead.errors import MaskError
from deadhead.gates.state import PrunedState, Removed
from deadhead.graph.agreement import relative_difference
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group

Entries = dict[str, tuple[Tensor, dict[int, Tensor] | None]]
"""{tensor: (which of its entries, bool of its shape; the lines {axis: indices} that these are, or None)}."""


def unit_entries(
    network: Network, closed: Mapping[str, Tensor], spared: Mapping[str, Collection[str]] | None = None
) -> Entries:
    """The entries that belong to units: incoming and outgoing weights, biases, parameters and statistics of norms.

    Args:
        network: the network.
        closed: {group: (K,)}, true where a unit is closed.
        spared: {group: tensors whose entries are left as they are}.
    """
    tensors, found = network.state(), dict[str, dict[int, Tensor]]()
    for group in network.groups:
        if group.name not in closed:
            continue
        for part in group.slices:
            tensor = tensors[part.parameter]
            if not tensor.is_floating_point() or part.parameter in (spared or {}).get(group.name, ()):
                continue
            units = part.units.clamp(min=0)
            there = (part.units >= 0) & closed[group.name][units]
            along = found.setdefault(part.parameter, {})
            along[part.axis] = along.get(part.axis, torch.zeros_like(there)) | there
    entries: Entries = {}
    for name, axes in found.items():
        tensor = tensors[name]
        mask = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
        lines = {axis: there.nonzero()[:, 0].to(tensor.device) for axis, there in axes.items() if there.any()}
        for axis, index in lines.items():
            mask.index_fill_(axis, index, True)
        if lines:
            entries[name] = mask, lines
    return entries


def spared_entries(
    network: Network, closed: Mapping[str, Tensor], spared: Mapping[str, Collection[str]]
) -> dict[str, Tensor]:
    """The entries of closed units that are left as they are: {tensor: which, bool of its shape}.

    Args:
        network: the network.
        closed: {group: (K,)}, true where a unit is closed.
        spared: {group: tensors whose entries are left as they are}.
    """
    zeroed = unit_entries(network, closed, spared)
    found = {}
    for name, (mask, _) in unit_entries(network, closed).items():
        rest = mask & ~zeroed[name][0] if name in zeroed else mask
        if bool(rest.any()):
            found[name] = rest
    return found


def with_weights(entries: Entries, weights: Mapping[str, Tensor]) -> Entries:
    """Entries of units, and single weights beside them: {tensor: which are closed}."""
    found = dict(entries)
    for name, closed in weights.items():
        if bool(closed.any()):
            found[name] = (closed | found[name][0] if name in found else closed), None
    return found


def spared_tensors(network: Network, groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """The tensors whose entries must not be zeroed to close units of each group, shown by trial.

    With a unit's entries at zero the network must compute what it computes with the unit's gate closed. Where it does
    not (a weight divided by its own norm, say), the entries of one tensor are left as they are.

    Args:
        network: the network.
        groups: the groups in question.

    Raises:
        MaskError: zeros close the units of a group in no way that was tried.
    """
    for group in groups:  # what no trial rules out: on other samples than the example zeros can make a difference
        if any(site.among for site in group.consumers):
            raise MaskError(_refusal(group, "something chooses among them, and zeros can be chosen"))
        if group.norms:
            raise MaskError(_refusal(group, "they are normalised together, and zeros count in a mean"))
    batch = example_batch(network)
    if _zeros_close(network, groups, {}, batch):
        return {group.name: () for group in groups}
    found: dict[str, tuple[str, ...]] = {}
    for group in groups:
        names = dict.fromkeys(part.parameter for part in group.slices)
        tries: list[tuple[str, ...]] = [(), *((name,) for name in names)]
        spared = next((each for each in tries if _zeros_close(network, [group], {group.name: each}, batch)), None)
        if spared is None:
            raise MaskError(_refusal(group, "what reads them does not read zeros as nothing"))
        found[group.name] = spared
    return found


def _refusal(group: Group, why: str) -> str:
    return (
        f"Units of {group.name} cannot be closed by zeros while the network trains: {why}; exclude the group, and "
        "prune it after training."
    )


def _zeros_close(
    network: Network, groups: Sequence[Group], spared: Mapping[str, Collection[str]], batch: Batch
) -> bool:
    """Whether zeros close every other unit of these groups."""
    closed = {group.name: torch.arange(group.size) % 2 == 1 for group in groups}
    for group in groups:
        closed[group.name][: group.minimum] = False
    own, zeroed = network.state(), dict[int, Tensor]()
    for name, (mask, _) in unit_entries(network, closed, spared).items():
        zeroed[id(own[name])] = own[name].detach().masked_fill(mask, 0)
    state = {name: zeroed.get(id(tensor), tensor.detach()) for name, tensor in own.items()}
    removed = Removed({name: units.nonzero()[:, 0] for name, units in closed.items()})
    expected = floats(PrunedState.of(network, removed).outputs(batch, renormalise=True))
    with torch.no_grad():
        found = floats(network.replay(batch.inputs, state))
    worst = max((relative_difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    return worst <= PROOF * tolerance_of(network.module)
