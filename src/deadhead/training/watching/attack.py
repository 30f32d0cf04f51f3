"""The learning-rate attack: a few steps at which one unit's incoming weights learn much faster than the rest."""

from __future__ import annotations

from collections import OrderedDict
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from deadhead.errors import DataError
from deadhead.graph.network import Network, trace
from deadhead.progress import Progress
from deadhead.training.aside import aside


class Attack:
    """Multiply the learning rate of one unit's incoming weights at steps S, S + I, ..., N times.

    The bias of the unit and everything else keep their learning rate. The optimizer may be of any class: before such a
    step the entries are remembered, and after it they are set to `w + m (w' - w)`, with w before and w' after. In SGD
    (with momentum, Nesterov or weight decay), Adam, AdamW, RMSprop and every other optimizer whose update is
    `w' = w - lr u` with u (and the state) free of lr, that is to rounding the step at a learning rate of m lr for these
    entries. It is not for LBFGS, whose line search and inner iterations depend on the weights that they reach: there it
    stretches the whole step.

    Args:
        optimizer: What trains the network.
        group_or_parameter: The name of a group of units, whose incoming weights are those that its producers read; or
            the name of a weight, or the weight itself, whose units lie along its first axis.
        unit: Which unit of the group, or which entry of the weight's first axis.
        start: The first step that is attacked, S: so many steps are taken before it, counted from here on.
        repeats: How many steps are attacked, N.
        interval: Every so many steps, I.
        multiplier: What the learning rate is multiplied by, m.
        model: The network as a module, or as a traced `Network`; needed for names.
        example: What the model is called with, to find a group's weights in a module that was not traced.
        progress: Called with ("attack", attacks done, repeats).

    Attributes:
        steps: The numbers of the steps that were attacked so far.

    Raises:
        DataError: There is no such group, weight or unit, the optimizer does not hold the weights, or a number is out
            of range.

    Source:
        Evci (2018), section 3.3.

    Example:
        >>> layer = nn.Linear(1, 2)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> before = layer.weight.detach().clone()
        >>> with Attack(optimizer, layer.weight, unit=1, start=1, repeats=1, interval=10, multiplier=100) as attack:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         layer(torch.ones(1, 1)).sum().backward()
        ...         optimizer.step()
        >>> attack.steps
        [1]
        >>> (before - layer.weight.detach()).round(decimals=3)  # 3 x 0.1, and 0.1 + 100 x 0.1 + 0.1
        tensor([[ 0.3000],
                [10.2000]])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        group_or_parameter: str | nn.Parameter,
        unit: int,
        start: int,
        repeats: int,
        interval: int,
        multiplier: float,
        *,
        model: nn.Module | Network | None = None,
        example: Any = None,
        progress: Progress | None = None,
    ) -> None:
        if start < 0 or repeats < 1 or interval < 1:
            raise DataError(
                f"An attack starts at a step from 0 on and has at least one repeat and an interval of at least 1, not "
                f"start={start}, repeats={repeats}, interval={interval}."
            )
        self._entries = _incoming(group_or_parameter, unit, model, example)
        self._optimizer = optimizer
        self._shapes = [parameter.shape for parameter, _, _ in self._entries]
        if not self._entries or not self._is_held():
            raise DataError(
                f"The optimizer does not hold the incoming weights of unit {unit} of {_name(group_or_parameter)}; give "
                "the optimizer that trains them."
            )
        self._when = range(start, start + repeats * interval, interval)
        self._multiplier, self._progress = multiplier, progress
        self._before: list[Tensor] | None = None
        self._done = 0
        self.steps: list[int] = []
        self._handles: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._remember),
            optimizer.register_step_post_hook(self._stretch),
        ]
        # Masks that hold weights still, and a watch that measures them, come after the attack, whoever was made first.
        hooks = optimizer._optimizer_step_post_hooks
        if isinstance(hooks, OrderedDict):
            hooks.move_to_end(self._handles[1].id, last=False)

    def _is_held(self) -> bool:
        """Whether the optimizer holds the weights, in the shapes that they had."""
        held = {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}
        pairs = zip(self._entries, self._shapes, strict=True)
        return all(id(parameter) in held and parameter.shape == shape for (parameter, _, _), shape in pairs)

    @torch.no_grad()
    def _remember(self, *_: object) -> None:
        if self._done in self._when:
            if not self._is_held():
                raise DataError(
                    "The weights that are attacked are not what they were when the attack was made, as after a cut in "
                    "place: stop it and make another."
                )
            self._before = [parameter.index_select(axis, index) for parameter, axis, index in self._entries]

    @torch.no_grad()
    def _stretch(self, *_: object) -> None:
        if self._before is not None:
            for (parameter, axis, index), before in zip(self._entries, self._before, strict=True):
                after = parameter.index_select(axis, index)
                parameter.index_copy_(axis, index, before + self._multiplier * (after - before))
            self._before = None
            self.steps.append(self._done)
            if self._progress is not None:
                self._progress("attack", len(self.steps), len(self._when))
        self._done += 1

    def stop(self) -> None:
        """End the attack; the weights stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Attack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


Entries = list[tuple[nn.Parameter, int, Tensor]]
"""Parameters with an axis, and the places along it."""


def _incoming(
    group_or_parameter: str | nn.Parameter, unit: int, model: nn.Module | Network | None, example: Any
) -> Entries:
    """The weights that make a unit."""
    if isinstance(group_or_parameter, nn.Parameter):
        return [_row(group_or_parameter, unit, "the weight")]
    if model is None:
        raise DataError(
            f"To find {group_or_parameter!r} the attack needs model=, the module or its traced network; or give the "
            "weight itself."
        )
    module = model.module if isinstance(model, Network) else model
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if group_or_parameter in parameters:
        return [_row(parameters[group_or_parameter], unit, group_or_parameter)]
    if not isinstance(model, Network):
        if example is None:
            raise DataError(
                f"{group_or_parameter!r} is no parameter of the model; to find it among the groups of units, give "
                "example=, what the model is called with, or a traced network as model=."
            )
        with aside():
            model = trace(model, example)
    group = model.static.group(group_or_parameter)
    if not 0 <= unit < group.size:
        raise DataError(f"The units of {group.name} are 0 to {group.size - 1}, so that there is no unit {unit}.")
    made = {(site.weight, site.weight_axis) for site in group.producers if site.weight is not None}
    return [
        (
            parameters[part.parameter],
            part.axis,
            (part.units == unit).nonzero()[:, 0].to(parameters[part.parameter].device),
        )
        for part in group.slices
        if (part.parameter, part.axis) in made and part.parameter in parameters
    ]


def _row(parameter: nn.Parameter, unit: int, name: str) -> tuple[nn.Parameter, int, Tensor]:
    if parameter.dim() == 0 or not 0 <= unit < len(parameter):
        raise DataError(
            f"The first axis of {name}, of shape {tuple(parameter.shape)}, has no unit {unit}: the units of a weight "
            "lie along its first axis."
        )
    return parameter, 0, torch.tensor([unit], device=parameter.device)


def _name(group_or_parameter: str | nn.Parameter) -> str:
    return group_or_parameter if isinstance(group_or_parameter, str) else "the weight given"
