"""Small CNNs for MNIST that train side by side: on the same batches, in the same products, each for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.errors import DeadheadError, LossError
from deadhead.progress import Progress, track

LAYERS = ("conv1", "conv2", "fc1", "fc2")


class SideBySide:
    """Train several networks of `small_cnn` at once by plain gradient descent, on the same batches.

    What each network becomes is what it would become alone, to rounding; two to eight of them take about half of the
    time of as many runs by `fit`, because the patches of the images are unfolded once and convolutions have more
    channels at a time. The networks' own parameters become views of stacked tensors, so that they can be measured,
    scored and pruned between steps as always.

    Args:
        models: networks of `small_cnn`, without masks or optimizers that hold on to the memory of their parameters;
            a model's parameters are the same objects afterwards.
        learning_rate: of gradient descent without momentum or weight decay.

    Raises:
        DeadheadError: a network is not of `small_cnn`'s layers.

    Example:
        >>> from deadhead.lab.models import small_cnn
        >>> models = [small_cnn(seed=0), small_cnn("tanh", seed=1)]
        >>> stack = SideBySide(models, learning_rate=0.01)
        >>> losses = stack.step(torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 3]))
        >>> losses.shape
        torch.Size([2])
    """

    def __init__(self, models: Sequence[nn.Module], learning_rate: float) -> None:
        for model in models:
            if [name for name, _ in model.named_parameters()] != [
                f"{x}.{y}" for x in LAYERS for y in ("weight", "bias")
            ]:
                raise DeadheadError(
                    f"{type(model).__name__} has other layers than small_cnn: train it with deadhead.lab.fit."
                )
        self.models, self.learning_rate = list(models), learning_rate
        self.activations = [type(model.get_submodule("act1"))() for model in models]
        self.held: dict[str, Tensor] = {}
        self.stacked = {name: self._gather(name) for name, _ in models[0].named_parameters()}
        for index, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.data = self._own(name, self.stacked[name].detach(), index)

    def _gather(self, name: str) -> Tensor:
        """A parameter of all models: that of fully connected layers by model, of the others by output channel."""
        own = [model.get_parameter(name).detach().clone() for model in self.models]
        if name.startswith("fc"):
            return torch.stack(own).requires_grad_()
        joined = torch.cat(own)
        if name == "conv2.weight":
            joined = joined.contiguous(memory_format=torch.channels_last)
        return joined.contiguous().requires_grad_() if name == "conv1.weight" else joined.requires_grad_()

    def _own(self, name: str, stacked: Tensor, index: int) -> Tensor:
        """The part of one model, in its own shape."""
        if name.startswith("fc"):
            return stacked[index]
        part = stacked.chunk(len(self.models))[index]
        # of one input channel both formats are the same numbers, and this one lets convolutions take the faster way
        return part.as_strided(part.shape, (25, 1, 5, 1), part.storage_offset()) if name == "conv1.weight" else part

    def hold(self, index: int, keep: Mapping[str, Tensor]) -> None:
        """Hold entries of one model at zero from now on.

        Args:
            index: which model.
            keep: {parameter: bool tensor of its shape, true where an entry trains on}, such as `Masks.keep`; replaces
                what was held of this model before.
        """
        for name, stacked in self.stacked.items():
            if name not in self.held and name not in keep:
                continue
            self.held.setdefault(name, torch.ones_like(stacked))
            part = self._own(name, self.held[name], index)
            part.copy_(keep[name]) if name in keep else part.fill_(1)
        self._zero()

    def _zero(self) -> None:
        with torch.no_grad():
            for name, kept in self.held.items():
                self.stacked[name].mul_(kept)

    def epoch(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        draw: torch.Generator,
        *,
        label: str = "training",
        progress: Progress | None = None,
    ) -> Tensor:
        """One pass over the samples, in the order in which `fit` would take them.

        Args:
            inputs: (samples, 1, 28, 28).
            targets: (samples,) int64.
            batch_size: samples of one step.
            draw: of the order, the next of it.
            label: what the pass is called in progress.
            progress: called after each step.

        Returns:
            The losses of every step, (steps, models).

        Raises:
            LossError: a loss is not finite.
        """
        batches = torch.split(torch.randperm(len(inputs), generator=draw), batch_size)
        losses = torch.stack([self.step(inputs[rows], targets[rows]) for rows in track(progress, label, batches)])
        if not losses.isfinite().all():
            raise LossError(
                f"A loss of this epoch is not finite: lower learning_rate ({self.learning_rate:g}), or look for values "
                "that are not finite in the inputs."
            )
        return losses

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step of each network.

        Args:
            inputs: (samples, 1, 28, 28).
            targets: (samples,) int64.

        Returns:
            The mean loss of each network before the step, (models,).
        """
        count, values = len(self.models), list(self.stacked.values())
        with torch.enable_grad():
            logits = self._outputs(inputs)
            losses = functional.cross_entropy(logits.flatten(0, 1), targets.repeat(count), reduction="none")
            losses = losses.reshape(count, -1).mean(1)
            gradients = torch.autograd.grad(losses.sum(), values)
        with torch.no_grad():
            torch._foreach_add_(values, list(gradients), alpha=-self.learning_rate)
        self._zero()
        return losses.detach()

    def _outputs(self, inputs: Tensor) -> Tensor:
        """The logits of each network, (models, samples, classes)."""
        count, p, rows = len(self.models), self.stacked, len(inputs)
        if count == 1:  # few channels: a convolution is faster than a product
            kernel = self._own("conv1.weight", p["conv1.weight"], 0)
            maps = functional.conv2d(inputs, kernel, p["conv1.bias"])
        else:
            maps = self._first(inputs)
        value = self._activated(functional.max_pool2d(maps, 2))
        value = functional.conv2d(value, p["conv2.weight"], p["conv2.bias"], groups=count)
        value = self._activated(functional.max_pool2d(value, 2))
        value = value.reshape(rows, count, -1).transpose(0, 1)
        value = torch.baddbmm(p["fc1.bias"][:, None], value, p["fc1.weight"].transpose(1, 2))
        value = self._activated(value, axis=0)
        return torch.baddbmm(p["fc2.bias"][:, None], value, p["fc2.weight"].transpose(1, 2))

    def _first(self, inputs: Tensor) -> Tensor:
        """The first convolution of all networks, as one product with the patches of the images."""
        images, weight = inputs[:, 0], self.stacked["conv1.weight"]
        patches = torch.stack([images[:, y : y + 24, x : x + 24] for y in range(5) for x in range(5)]).flatten(1)
        maps = torch.addmm(self.stacked["conv1.bias"], patches.t(), weight.flatten(1).t())
        return maps.view(len(inputs), 24, 24, -1).permute(0, 3, 1, 2)

    def _activated(self, value: Tensor, axis: int = 1) -> Tensor:
        if len({type(each) for each in self.activations}) == 1:
            return self.activations[0](value)  # type: ignore[no-any-return]
        parts = value.chunk(len(self.models), axis)
        return torch.cat([each(part) for each, part in zip(self.activations, parts, strict=True)], axis)
