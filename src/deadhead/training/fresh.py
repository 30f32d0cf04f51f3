"""What a parameter would be had its layer been initialised anew."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deadhead.errors import DataError

RESETS = ("reset_parameters", "_reset_parameters")
"""The methods by which torch's layers initialise themselves."""


def fresh_values(
    module: nn.Module, name: str, generator: torch.Generator | None = None, open_entries: Tensor | None = None
) -> Tensor:
    """The values that a parameter or buffer has after its own layer's `reset_parameters`.

    The layer resets a copy of itself on the CPU: norms come out as ones and zeros, running statistics as new. Where a
    parameter's owner has no such method its values are drawn from a normal distribution of mean 0 with the standard
    deviation of the parameter's open entries. Neither the module nor any global random generator is changed.

    Args:
        module: the network that has the parameter.
        name: of the parameter or buffer, as in `named_parameters`.
        generator: where the random numbers come from, advanced by each call; one with seed 0 by default, so that each
            call gives the same values.
        open_entries: boolean, in the parameter's shape: the entries whose standard deviation counts; by default those
            that are not 0.

    Returns:
        The values, in the parameter's shape and dtype and on its device, detached.

    Raises:
        DataError: the module has no parameter or buffer of that name.

    Source:
        The initialisation is torch's own; "re-initialise or remove" of dead units: Evci (2018), section 3.2.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
        >>> fresh_values(model, "1.running_var")
        tensor([1., 1.])
        >>> bool((fresh_values(model, "0.weight").abs() <= 0.5).all())  # uniform within 1 / sqrt(4)
        True
    """
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    if name not in held:
        raise DataError(
            f"{type(module).__name__} has no parameter or buffer {name!r}; give a name as in named_parameters()."
        )
    tensor = held[name].detach()
    source = torch.Generator().manual_seed(0) if generator is None else generator
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    path, _, own = name.rpartition(".")
    found = _reset_copy(module.get_submodule(path), own, seed)
    if found is None or found.shape != tensor.shape:
        found = _drawn(tensor, open_entries, seed)
    return found.to(tensor.device, tensor.dtype)


def _reset_copy(owner: nn.Module, name: str, seed: int) -> Tensor | None:
    """The tensor of that name in a copy of its owner that was reset; None where the owner cannot be."""
    reset = next((each for each in RESETS if callable(getattr(owner, each, None))), None)
    if reset is None:
        return None
    other = copy.deepcopy(owner).to("cpu")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        getattr(other, reset)()
    found = getattr(other, name, None)
    return found.detach() if isinstance(found, Tensor) else None


def _drawn(tensor: Tensor, open_entries: Tensor | None, seed: int) -> Tensor:
    """A normal draw with the standard deviation of the open entries, the root of their mean square for a single one."""
    entries = tensor[tensor != 0 if open_entries is None else open_entries].double()
    spread = float(entries.std()) if len(entries) > 1 else float(entries.square().sum().sqrt())
    drawn = torch.randn(tensor.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn * spread
