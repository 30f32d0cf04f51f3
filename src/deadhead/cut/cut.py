"""Cutting: the user's own module made smaller, after it was shown which of its groups can be cut."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from deadhead.cut.program import rewrites, settings_of
from deadhead.cut.repair import Repair, rewrites_for, settings_for
from deadhead.cut.surgery import Surgery, copy_of, operate, owner_of, pick, surgery_for
from deadhead.errors import CutError
from deadhead.graph.network import Network
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan


def cut(
    network: Network, plan: Plan, compensation: Compensation | None = None, repairs: Sequence[Repair] = ()
) -> nn.Module:
    """Cut a copy of the network's module.

    Args:
        network: the intact network.
        plan: the units that are removed.
        compensation: the weights that the remaining units are given.
        repairs: the numbers of the class that change with the units.
    """
    module = copy_of(network.module)
    carry_out(module, surgery_of(network, plan, compensation, repairs), compensation)
    return module


def surgery_of(
    network: Network, plan: Plan, compensation: Compensation | None = None, repairs: Sequence[Repair] = ()
) -> Surgery:
    """The surgery of a plan: entries of tensors, numbers of modules, and the biases that the compensation adds.

    Args:
        network: the intact network.
        plan: the units that are removed.
        compensation: what may add biases.
        repairs: the numbers of the class that change with the units.
    """
    surgery = surgery_for(network.module, network.groups, plan.removed)
    surgery.rewrites = rewrites(network.module, network.static, plan.removed)
    surgery.settings += settings_of(network.module, network.static, plan.removed)
    surgery.settings += settings_for(network.module, repairs, plan.removed)
    surgery.rewrites += rewrites_for(network.module, repairs, plan.removed)
    if compensation is not None:
        for name, value in compensation.biases.items():
            kept = surgery.keep.get(weight_beside(name), {}).get(0)
            surgery.biases[name] = len(value) if kept is None else len(kept)
    return surgery


def carry_out(module: nn.Module, surgery: Surgery, compensation: Compensation | None = None) -> dict[int, nn.Parameter]:
    """Cut `module` itself and give it the compensation's weights.

    Args:
        module: the module that is changed.
        surgery: what is removed and what changes.
        compensation: the weights that the remaining units are given.

    Returns:
        {id of a parameter: the parameter that had to take its place}.

    Raises:
        CutError: where the module has no such tensors or numbers.
    """
    compensation = compensation or Compensation()
    for name in compensation.tensors:
        owner, leaf = owner_of(module, name)
        if leaf not in owner._parameters and leaf not in owner._buffers:
            raise CutError(f"{name} is no parameter or buffer of {type(module).__name__}.")
    replaced = operate(module, surgery)
    keep = _shared_keep(module, surgery)
    with torch.no_grad():
        for name, value in compensation.tensors.items():
            owner, leaf = owner_of(module, name)
            getattr(owner, leaf).copy_(pick(value, keep.get(name, {})))
        for name, value in compensation.biases.items():
            owner, leaf = owner_of(module, name)
            kept = surgery.keep.get(weight_beside(name), {}).get(0)
            getattr(owner, leaf).data = value.clone() if kept is None else pick(value, {0: kept})
    return replaced


def weight_beside(bias: str) -> str:
    """The name of the weight in the module that a bias belongs to."""
    return f"{bias.rpartition('.')[0]}.weight".removeprefix(".")


def _shared_keep(module: nn.Module, surgery: Surgery) -> dict[str, dict[int, list[int]]]:
    """`surgery.keep` under every name of tensors that are shared."""
    tensors = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    by_id = {id(tensors[name]): axes for name, axes in surgery.keep.items()}
    return {name: by_id[id(tensor)] for name, tensor in tensors.items() if id(tensor) in by_id}
