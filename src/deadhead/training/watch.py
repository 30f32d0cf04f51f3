"""How much training changes each weight."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from deadhead.errors import DataError


class Watch:
    """The recording of one training run; made by `watch`. As a context manager it ends with its block, else with
    `stop()`.

    Attributes:
        adjustments: For each parameter's name the sum of `abs(w_t - w_(t-1))` over the optimizer's steps so far, in
            the parameter's shape.
        steps: How many steps that were.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        >>> recording = watch(layer, optimizer)
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> recording.stop()
        >>> recording.steps, recording.adjustments["weight"].round(decimals=3)
        (1, tensor([[1., 1.]]))
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        self._parameters = {name: p for name, p in model.named_parameters() if id(p) in held}
        if not self._parameters:
            raise DataError("The optimizer holds no parameter of this model; give the optimizer that trains it.")
        self._last = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.adjustments: dict[str, Tensor] = {name: torch.zeros_like(last) for name, last in self._last.items()}
        self.steps = 0
        self._handle: RemovableHandle | None = optimizer.register_step_post_hook(self._record)

    def _record(self, *_: object) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                self.adjustments[name] += (parameter - self._last[name]).abs()
                self._last[name].copy_(parameter)
        self.steps += 1

    def stop(self) -> None:
        """End the recording; `adjustments` and `steps` are kept."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            self._last = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def watch(model: nn.Module, optimizer: Optimizer) -> Watch:
    """Record how much training changes each weight, for the criterion `gradient`.

    From now on, every step of the optimizer adds the absolute change of each parameter. Model, gradients and training
    are not changed. Takes the memory of two copies of the parameters.

    Args:
        model: The network that is trained.
        optimizer: The optimizer that trains it.

    Returns:
        The recording, which is also a context manager: its `adjustments` hold a tensor for each parameter.

    Raises:
        DataError: The optimizer holds no parameter of the model.

    Source:
        "Pruning in neural networks: purpose and concept", gradient-based pruning ("those least adjusted during
        training").

    Example:
        >>> import deadhead as dh
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch(model, optimizer) as seen:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(1, 2)).sum().backward()
        ...         optimizer.step()
        >>> seen.steps, seen.adjustments["2.bias"]  # three steps of 0.1 times a gradient of 1
        (3, tensor([0.3000]))
        >>> data = [(torch.randn(8, 2), torch.randn(8, 1))]
        >>> scores = dh.score(model, data, loss="mse", criterion="gradient", adjustments=seen.adjustments)
        >>> scores["0"].shape
        torch.Size([4])
    """
    return Watch(model, optimizer)
