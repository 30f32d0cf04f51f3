"""Masks of `torch.nn.utils.prune`: read, so that what they close is closed here, and written for other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from deadhead.cut.verify import floats, tolerance_of
from deadhead.errors import MaskError
from deadhead.graph.agreement import relative_difference
from deadhead.graph.network import Network
from deadhead.training.masking.closed import Closed
from deadhead.training.masking.holding import Holding

ORIGINAL, MASK = "_orig", "_mask"
"""What torch calls a masked parameter and its mask: `weight` becomes `weight_orig` and `weight_mask`."""


def torch_masks(module: nn.Module) -> dict[str, list[Tensor]]:
    """The masks that torch's own pruning has put on the parameters of a module.

    Args:
        module: any module.

    Returns:
        {parameter, by its first name: the buffer with its mask in every module that holds it}; a parameter that some
        module reads without a mask is not among them.

    Example:
        >>> layer = prune.custom_from_mask(nn.Linear(2, 1), "weight", torch.tensor([[1, 0]]))
        >>> torch_masks(layer)
        {'weight_orig': [tensor([[1., 0.]])]}
    """
    found: dict[int, tuple[str, list[Tensor | None]]] = {}
    for path, owner in module.named_modules():
        masked = [hook._tensor_name for hook in owner._forward_pre_hooks.values() if _masks_for_torch(hook)]
        masks = {name + ORIGINAL: owner._buffers[name + MASK] for name in masked}
        for leaf, parameter in owner._parameters.items():
            if parameter is not None:
                name = f"{path}.{leaf}" if path else leaf
                found.setdefault(id(parameter), (name, []))[1].append(masks.get(leaf))
    return {
        name: [mask for mask in masks if mask is not None]
        for name, masks in found.values()
        if all(mask is not None for mask in masks)
    }


def without_torch_masks(module: nn.Module) -> dict[str, Tensor]:
    """Make plain parameters of those that torch's own pruning has masked, with zeros where the masks are.

    Consumers under a mask of torch take no constants, since their weight is a product; plain weights do, and
    `Masks.close_weights` holds the zeros of what this returns.

    Args:
        module: the module, changed in place; parameters keep their objects.

    Returns:
        {parameter: bool tensor of its shape, true where its mask left it}.

    Example:
        >>> layer = prune.custom_from_mask(nn.Linear(2, 1), "weight", torch.tensor([[1, 0]]))
        >>> without_torch_masks(layer), list(layer.state_dict())
        ({'weight': tensor([[ True, False]])}, ['bias', 'weight'])
    """
    kept: dict[str, Tensor] = {}
    for path, owner in module.named_modules():
        for hook in list(owner._forward_pre_hooks.values()):
            if _masks_for_torch(hook):
                name = hook._tensor_name
                mask = owner._buffers[name + MASK]
                prune.remove(owner, name)  # type: ignore[no-untyped-call]
                kept[f"{path}.{name}" if path else name] = mask != 0
    return kept


def _masks_for_torch(hook: object) -> bool:
    return isinstance(hook, prune.BasePruningMethod)


def read_masks(closed: Closed) -> None:
    """Close what torch's masks close: single weights, and units none of whose weights they leave open.

    Args:
        closed: what is closed in a network, so far nothing.
    """
    zeros = {
        name: torch.stack([mask == 0 for mask in masks]).all(0) for name, masks in torch_masks(closed.module).items()
    }
    closed.weights = {name: each for name, each in zeros.items() if bool(each.any())}
    if not closed.weights:
        return
    whole = {name: units for name, units in _units_without_weights(closed).items() if bool(units.any())}
    try:
        closed.prove(whole)
    except MaskError:
        whole = {}  # their weights are closed all the same
    closed.units.update(whole)
    closed.found = closed.indices
    closed.hold()


def _units_without_weights(closed: Closed) -> dict[str, Tensor]:
    """{group: (K,)}, true for a unit none of whose parameters has an open entry."""
    parameters = dict(closed.module.named_parameters(remove_duplicate=False))
    found: dict[str, Tensor] = {}
    for group in closed.network.groups:
        if group.name not in closed.units:
            continue
        is_open = torch.zeros(group.size, dtype=torch.bool)
        for part in group.slices:
            if part.parameter not in parameters:
                continue
            parameter = parameters[part.parameter]
            entries = closed.weights.get(closed.first_name(part.parameter))
            if entries is None:
                entries = torch.zeros_like(parameter, dtype=torch.bool)
            lines = (~entries).movedim(part.axis, 0).reshape(len(part.units), -1).any(1).cpu()
            there = part.units >= 0
            is_open[part.units[there & lines]] = True
        found[group.name] = ~is_open if int(is_open.sum()) >= group.minimum else torch.zeros_like(is_open)
    return found


@torch.no_grad()
def follow_in_torch(holding: Holding, weights: Mapping[str, Tensor]) -> None:
    """Make torch's masks, where a parameter has one, close the single weights that are closed here, and no others.

    Args:
        holding: the entries that are held at zero, those of masks among them.
        weights: {parameter: true where a single weight is closed}.
    """
    for name, masks in torch_masks(holding.module).items():
        for mask in masks if name in weights else ():
            if not torch.equal(mask == 0, weights[name]):
                mask.copy_(torch.where(weights[name], 0, torch.where(mask == 0, 1, mask)))
    for name, held in holding.held.items():
        if name.endswith(MASK):
            held.hold()


def write_masks(network: Network, holding: Holding) -> None:
    """Write all entries that are held at zero as masks of torch, and end holding them.

    Args:
        network: the traced network.
        holding: the entries.

    Raises:
        MaskError: the module with torch's masks does not compute what it did; it is left as it was then.
    """
    holding.check()
    before, names = _outputs(network), {id(owner): path for path, owner in network.module.named_modules()}
    written: list[tuple[nn.Module, str]] = []
    for held in list(holding.held.values()):
        for owner, leaf in _holders(network.module, held.tensor):
            plain = leaf.removesuffix(ORIGINAL)
            if leaf != plain and plain + MASK in owner._buffers:
                owner._buffers[plain + MASK].masked_fill_(held.closed, 0)  # type: ignore[union-attr]
                continue
            prune.custom_from_mask(owner, leaf, ~held.closed)  # type: ignore[no-untyped-call]
            _put_first(owner._forward_pre_hooks)  # before one that reads the tensor, as weight norm's
            written.append((owner, leaf))
    uncalled = {id(owner): names[id(owner)] for owner, _ in written}

    def called(own: nn.Module, _: Any) -> None:
        uncalled.pop(id(own), None)

    handles = [owner.register_forward_pre_hook(called) for owner, _ in written]
    try:
        pairs = zip(before, _outputs(network), strict=True)
        is_same = all(relative_difference(*pair) <= tolerance_of(network.module) for pair in pairs)
    except Exception:  # the user's forward may raise anything
        is_same = False
    for handle in handles:
        handle.remove()
    if not is_same or uncalled:
        for owner, leaf in written:
            prune.remove(owner, leaf)  # type: ignore[no-untyped-call]
        where = " and ".join(uncalled.values()) or type(network.module).__name__
        raise MaskError(
            f"Masks of torch.nn.utils.prune act when the module that holds a parameter is called, and the parameters "
            f"of {where} are read in another way; keep these masks, or cut the units."
        )
    holding.stop()


def _put_first(hooks: dict[int, Any]) -> None:
    """Let the hook that was added last run first."""
    *others, last = hooks.items()
    hooks.clear()
    hooks.update([last, *others])


def _holders(module: nn.Module, tensor: Tensor) -> Iterator[tuple[nn.Module, str]]:
    """The modules that hold a parameter, each with its name there; none for a buffer."""
    for owner in list(module.modules()):
        for leaf, parameter in list(owner._parameters.items()):
            if parameter is tensor:
                yield owner, leaf


def _outputs(network: Network) -> list[Tensor]:
    return floats(network.run_module(network.example_call()))
