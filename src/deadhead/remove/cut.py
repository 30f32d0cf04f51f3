"""Cutting: the user's own module made smaller, after it was shown which of its groups can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from deadhead.calibration import Batch
from deadhead.errors import CutError, TraceError
from deadhead.graph.network import Network
from deadhead.graph.trace import batch_size
from deadhead.graph.units import Group
from deadhead.progress import Progress, track
from deadhead.remove.compensate import Compensation
from deadhead.remove.program import rewrites, settings_of
from deadhead.remove.surgery import Surgery, copy_of, operate, owner_of, pick, surgery_for
from deadhead.remove.verify import Gated, tolerance_of, verify
from deadhead.select.plan import Plan, plan_of

PROOF_FACTOR = 10.0
"""A trial cut may differ by this many times verify's tolerance: a wrong cut differs by far more, rounding by less."""


def cuttable(
    network: Network, groups: Sequence[Group], progress: Progress | None = None
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """The groups that can be cut from the user's class, shown by cutting units of each on a copy and running it; and
    for each other group the reason why it is left whole."""
    example = Batch(network.example_call(), None, None, batch_size(network.example, network.batch_axis))
    if not groups or _trials(network, groups, example) is None:
        return tuple(groups), {}
    good: list[Group] = []
    left: dict[str, str] = {}
    for group in track(progress, "trial cuts", groups):
        reason = _trials(network, [group], example)
        if reason is None:
            good.append(group)
        else:
            left[group.name] = reason
    while len(good) > 1 and (reason := _trials(network, good, example)) is not None:
        group = good.pop()
        left[group.name] = f"it cannot be cut together with the other groups: {reason}"
    return tuple(good), left


def _trials(network: Network, groups: Sequence[Group], example: Batch) -> str | None:
    """Why one of several cuts of these groups is not right, or None where all are.

    First every other unit, the first ones, random ones and all but one go from all groups: a forward that halves an
    axis follows the first, one that counts from the front the second, and rounding hides what a single unit does. Then,
    for any two groups, there is a cut of one without the other: they may have been equal in number only by chance.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(part: Sequence[Group], most: bool) -> Plan:
        return plan_of([(group.name, unit) for group in part for unit in _some(group.size, most, generator)])

    plans = [
        plan_of([(group.name, unit) for group in groups for unit in range(0, group.size - 1, 2)]),
        plan_of([(group.name, unit) for group in groups for unit in range((group.size + 2) // 3)]),
        draw(groups, most=False),
        draw(groups, most=True),
    ]
    for bit in range((len(groups) - 1).bit_length()):
        for side in (0, 1):
            part = [group for place, group in enumerate(groups) if place >> bit & 1 == side]
            plans += [draw(part, most=False), draw(part, most=True)]
    for plan in plans:
        reason = _trial(network, plan, example)
        if reason is not None:
            return reason
    return None


def _some(size: int, most: bool, generator: torch.Generator) -> list[int]:
    """At least one of `size` units, and not all; all but one with `most`."""
    count = size - 1 if most else 1 + int(torch.randint(size - 1, (), generator=generator))
    return [int(unit) for unit in torch.randperm(size, generator=generator)[:count]]


def _trial(network: Network, plan: Plan, example: Batch) -> str | None:
    """Why a cut is not right, or None where it is."""
    try:
        module = cut(network, plan)
        difference = verify(Gated(network, plan), module, [example])
    except TraceError:
        raise
    except Exception as error:  # the user's forward may raise anything on tensors that it did not expect
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"the class's own forward fails on it ({type(error).__name__}: {message})"
    if not difference <= PROOF_FACTOR * tolerance_of(network.module):
        return f"the class's own forward computes something else with it (by {difference:.1e} relative)"
    return None


def cut(network: Network, plan: Plan, compensation: Compensation | None = None) -> nn.Module:
    """A copy of the network's module without the plan's units, with the compensation's weights."""
    module = copy_of(network.module)
    carry_out(module, surgery_of(network, plan, compensation), compensation)
    return module


def surgery_of(network: Network, plan: Plan, compensation: Compensation | None = None) -> Surgery:
    """The surgery of a plan, with the biases that the compensation adds."""
    surgery = surgery_for(network.module, network.groups, plan.removed)
    surgery.rewrites = rewrites(network.module, network.static, plan.removed)
    surgery.settings += settings_of(network.module, network.static, plan.removed)
    if compensation is not None:
        for name, value in compensation.biases.items():
            rows = surgery.keep.get(weight_beside(name), {}).get(0)
            surgery.biases[name] = len(value) if rows is None else len(rows)
    return surgery


def carry_out(module: nn.Module, surgery: Surgery, compensation: Compensation | None = None) -> dict[int, nn.Parameter]:
    """Cut `module` itself and give it the compensation's weights. Returns the parameters that had to be exchanged."""
    compensation = compensation or Compensation()
    for name in compensation.state:
        owner, leaf = owner_of(module, name)
        if leaf not in owner._parameters and leaf not in owner._buffers:
            raise CutError(f"{name} is no parameter or buffer of {type(module).__name__}.")
    replaced = operate(module, surgery)
    keep = _shared_keep(module, surgery)
    with torch.no_grad():
        for name, value in compensation.state.items():
            owner, leaf = owner_of(module, name)
            getattr(owner, leaf).copy_(pick(value, keep.get(name, {})))
        for name, value in compensation.biases.items():
            owner, leaf = owner_of(module, name)
            rows = surgery.keep.get(weight_beside(name), {}).get(0)
            getattr(owner, leaf).data = value.clone() if rows is None else pick(value, {0: rows})
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
