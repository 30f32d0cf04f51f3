"""How much training changes each weight, added up over the steps of an optimizer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.errors import DataError


def check_trained(model: nn.Module, optimizer: Optimizer) -> None:
    """Raise `DataError` for an optimizer that holds no parameter of the model."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in model.parameters()):
        raise DataError("The optimizer holds no parameter of this model; give the optimizer that trains it.")


class Adjustments:
    """Sums of the absolute changes of each parameter that an optimizer holds.

    A parameter whose shape changes, as when the network is cut in place, starts anew at the first step after it.

    Args:
        model: the network that is trained.
        optimizer: what trains it.

    Attributes:
        totals: {parameter: `sum_t abs(w_t - w_(t-1))`, in its shape}.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self.totals: dict[str, Tensor] = {}
        self._parameters: dict[str, nn.Parameter] = {}
        self._last: dict[str, Tensor] = {}
        self._held: list[int] = []
        self._read_parameters()

    def _read_parameters(self) -> None:
        self._held = self._ids()
        held = set(self._held)
        found = {name: p for name, p in self._model.named_parameters() if id(p) in held}
        for name, parameter in found.items():
            if self._parameters.get(name) is not parameter or self._last[name].shape != parameter.shape:
                self._last[name] = parameter.detach().clone()
                if name not in self.totals or self.totals[name].shape != parameter.shape:
                    self.totals[name] = torch.zeros_like(self._last[name].abs())  # real for complex ones
        self._parameters = found

    def _ids(self) -> list[int]:
        return [id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def add(self) -> None:
        """Add the changes since the last call."""
        if self._ids() != self._held or any(p.shape != self._last[name].shape for name, p in self._parameters.items()):
            self._read_parameters()
        now = [parameter.detach() for parameter in self._parameters.values()]
        last = [self._last[name] for name in self._parameters]
        changes = torch._foreach_sub(now, last)
        torch._foreach_add_([self.totals[name] for name in self._parameters], torch._foreach_abs(changes))
        torch._foreach_copy_(last, now)

    @torch.no_grad()
    def skip(self) -> None:
        """Leave out the changes since the last call, which training did not make."""
        for name, parameter in self._parameters.items():
            self._last[name].copy_(parameter)

    def release(self) -> None:
        """Give the memory of the copies back; the totals are kept."""
        self._last, self._parameters = {}, {}
