"""The tasks of Wolfe et al. (2016), each with a freshly trained sigmoid network: data, held-out data and the network.

Where the paper is silent: weights and biases start as torch's own (uniform, bound 1 / sqrt(inputs)), and training ends
when the network is as good on the points that it is trained on as the paper's.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadhead.errors import DataError
from deadhead.lab.data import Split, mnist
from deadhead.progress import Progress, track

Reached = Callable[[nn.Module], bool]


@dataclass(frozen=True)
class Task:
    """A trained network, the data that pruning decides on, and data that no decision sees.

    Attributes:
        name: of the task.
        model: in evaluation mode; its outputs lie between 0 and 1.
        inputs: (samples, inputs), what it was trained on, or a part of it.
        targets: (samples, outputs), the wanted outputs; of a class, 1 at its place and 0 elsewhere.
        held_inputs: (held-out samples, inputs).
        held_targets: (held-out samples, outputs).
        steps: of training.
    """

    name: str
    model: nn.Sequential
    inputs: Tensor
    targets: Tensor
    held_inputs: Tensor
    held_targets: Tensor
    steps: int = 0

    @property
    def has_classes(self) -> bool:
        """Whether outputs are classes, so that there is an accuracy."""
        return self.targets.shape[1] > 1

    @property
    def data(self) -> list[tuple[Tensor, Tensor]]:
        """The data that pruning decides on, as one batch."""
        return [(self.inputs, self.targets)]

    @property
    def held(self) -> list[tuple[Tensor, Tensor]]:
        """The held-out data, as one batch."""
        return [(self.held_inputs, self.held_targets)]


def sigmoid_network(
    widths: tuple[int, ...], *, softmax: bool = False, seed: int = 0, start: str = "torch"
) -> nn.Sequential:
    """Linear layers, each followed by a logistic sigmoid.

    Args:
        widths: of the inputs, the hidden layers and the outputs.
        softmax: at the outputs, in place of the sigmoid.
        seed: of the start.
        start: "torch", its own, or "normal", all weights and biases from the standard normal distribution, as in
            Nielsen (2015), "Neural networks and deep learning", chapter 1.

    >>> [type(layer).__name__ for layer in sigmoid_network((1, 3, 2), softmax=True)]
    ['Linear', 'Sigmoid', 'Linear', 'Softmax']
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = [layer for i, o in itertools.pairwise(widths) for layer in (nn.Linear(i, o), nn.Sigmoid())]
        net = nn.Sequential(*layers[:-1], nn.Softmax(1)) if softmax else nn.Sequential(*layers)
        for parameter in net.parameters() if start == "normal" else ():
            nn.init.normal_(parameter)
    return net


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of samples whose largest output is that of the wanted class."""
    return (outputs.argmax(1) == targets.argmax(1)).double().mean().item()


def as_good(inputs: Tensor, targets: Tensor, wanted: float) -> Reached:
    """Whether a network has an accuracy of at least `wanted` on these samples."""

    def reached(model: nn.Module) -> bool:
        with torch.no_grad():
            return accuracy(model(inputs), targets) >= wanted

    return reached


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_error": lambda outputs, targets: (outputs - targets).square().sum() / 2,
    "cross_entropy": lambda outputs, targets: F.binary_cross_entropy(outputs, targets, reduction="sum"),
}
"""What training lowers, summed over samples and outputs."""


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    reached: Reached,
    *,
    batch_size: int,
    learning_rate: float,
    most_epochs: int,
    optimizer: str = "adam",
    loss: str = "squared_error",
    check: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Lower the mean loss in place until the network is good enough.

    Args:
        model: what is trained.
        inputs: (samples, inputs).
        targets: (samples, outputs).
        reached: whether the network is good enough.
        batch_size: samples of a step.
        learning_rate: constant.
        most_epochs: passes over the samples after which a network that is not good enough is taken as it is.
        optimizer: "adam", or "sgd" without momentum.
        loss: "squared_error", `1/2 sum (o - t)^2`, or "cross_entropy" of each output, whose gradient does not vanish
            where an output is wrong and saturated.
        check: ask `reached` after so many steps; 0 asks after each epoch.
        seed: of the order of the samples.
        progress: called after each epoch.

    Returns:
        The number of steps.
    """
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    stepper, lower = kinds[optimizer](model.parameters(), lr=learning_rate, fused=True), LOSSES[loss]
    order, steps = torch.Generator().manual_seed(seed), 0
    for _ in track(progress, "training", range(most_epochs)):
        for rows in torch.split(torch.randperm(len(inputs), generator=order), batch_size):
            stepper.zero_grad()
            torch.autograd.backward(lower(model(inputs[rows]), targets[rows]) / len(rows))
            stepper.step()
            steps += 1
            if check and steps % check == 0 and reached(model):
                return steps
        if not check and reached(model):
            return steps
    return steps


def mnist20(
    hidden: tuple[int, ...],
    wanted: float,
    *,
    images: int = 5000,
    held: int = 1000,
    loss: str = "cross_entropy",
    learning_rate: float = 1e-3,
    start: str = "torch",
    seed: int = 0,
    most_epochs: int = 250,
    progress: Progress | None = None,
) -> Task:
    """MNIST at 20x20 pixels in 0 to 1, ten sigmoid outputs.

    Silent in the paper: Adam 0.001, batches of 50, pixels averaged over areas; images drawn from MNIST's training part,
    held-out ones from its test part. Training lowers the cross-entropy of each output: by squared error, Adam (0.001
    to 0.01) and SGD (1 to 3) stop at accuracies of 0.993 to 0.996 on the images, because outputs that are wrong and
    saturated have no gradient, and the paper starts from 0.998 and 1.000.

    Args:
        hidden: widths of the hidden layers.
        wanted: accuracy on the images at which training ends.
        images: trained on.
        held: images held out.
        loss: see `train`.
        learning_rate: Adam's.
        start: see `sigmoid_network`.
        seed: of images, start and order.
        most_epochs: see `train`.
        progress: called while the network is trained.

    Source: Wolfe et al. (2016), sections 4.2 to 4.4.
    """
    split, draw = _mnist(), torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split.train_inputs), generator=draw)[:images]
    others = torch.randperm(len(split.test_inputs), generator=draw)[:held]
    x, y = _small(split.train_inputs[chosen]), F.one_hot(split.train_targets[chosen], 10).float()
    model = sigmoid_network((400, *hidden, 10), seed=seed, start=start)
    steps = train(
        model, x, y, as_good(x, y, wanted), batch_size=50, learning_rate=learning_rate, most_epochs=most_epochs,
        loss=loss, seed=seed, progress=progress,
    )  # fmt: skip
    outer = _small(split.test_inputs[others]), F.one_hot(split.test_targets[others], 10).float()
    return Task(f"digits, {_layers(hidden)}", model.eval(), x, y, *outer, steps)


def cosine(
    hidden: tuple[int, ...],
    *,
    points: int = 1000,
    low: float = -math.pi,
    high: float = math.pi,
    wanted: float = 1e-6,
    start: str = "torch",
    seed: int = 0,
    most_epochs: int = 40000,
    progress: Progress | None = None,
) -> Task:
    """Regression of the cosine, one input and one sigmoid output.

    Silent in the paper: x in [-pi, pi], a whole period, target (1 + cos x) / 2, which a sigmoid can give; all points
    in a step of Adam 0.01, to a mean of (o - t)^2 of 1e-6. Points are in float64, where errors as small as that are
    still exact.

    Args:
        hidden: widths of the hidden layers.
        points: evenly spaced for training, as many between them held out.
        low: smallest x.
        high: largest x.
        wanted: mean squared error at which training ends.
        start: see `sigmoid_network`.
        seed: of the start.
        most_epochs: see `train`.
        progress: called while the network is trained.

    Source: Wolfe et al. (2016), section 4.1.
    """
    grid = torch.linspace(low, high, 2 * points + 1, dtype=torch.float64)[:-1, None]
    x, between = grid[::2], grid[1::2]
    y, truth = (1 + x.cos()) / 2, (1 + between.cos()) / 2
    model = sigmoid_network((1, *hidden, 1), seed=seed, start=start).double()

    def reached(model: nn.Module) -> bool:
        with torch.no_grad():
            return float((model(x) - y).square().mean()) <= wanted

    steps = train(
        model, x, y, reached, batch_size=points, learning_rate=0.01, most_epochs=most_epochs, check=10,
        seed=seed, progress=progress,
    )  # fmt: skip
    return Task(f"cosine, {_layers(hidden)}", model.eval(), x, y, between, truth, steps)


SHAPES = {"diamond": 0.992, "random shape": 0.986}
"""Shapes with the accuracy at which the paper starts."""


def shape(
    kind: str,
    *,
    hidden: tuple[int, ...] = (50, 50),
    points: int = 5000,
    held: int = 1000,
    seed: int = 0,
    most_epochs: int = 200,
    progress: Progress | None = None,
) -> Task:
    """Whether a point of [-1, 1]^2 lies in a shape, two sigmoid outputs ("10 outputs" in the paper is read as 2).

    Silent in the paper: Adam 0.01, batches of 50. The diamond is `abs(x) + abs(y) <= 1`. The random shape's radius is
    0.65 + 0.08 sum over k = 1 to 5 of a_k cos(k angle + phase_k), a_k uniform in [-1, 1].

    Args:
        kind: "diamond" or "random shape".
        hidden: widths of the hidden layers.
        points: trained on, uniform in the square.
        held: points held out.
        seed: of points, shape, start and order.
        most_epochs: see `train`.
        progress: called while the network is trained.

    Raises:
        DataError: another kind.

    Source: Wolfe et al. (2016), section 4.6 and figure 25.
    """
    if kind not in SHAPES:
        raise DataError(f"There is no shape called {kind!r}: choose one of {', '.join(SHAPES)}.")
    draw = torch.Generator().manual_seed(seed)
    all_points = 2 * torch.rand(points + held, 2, generator=draw) - 1
    sizes, phases = 2 * torch.rand(5, generator=draw) - 1, 2 * math.pi * torch.rand(5, generator=draw)
    angles = torch.atan2(all_points[:, 1], all_points[:, 0])
    waves = sizes * torch.cos(torch.arange(1, 6) * angles[:, None] + phases)
    border = 0.65 + 0.08 * waves.sum(1)
    inside = all_points.abs().sum(1) <= 1 if kind == "diamond" else all_points.norm(dim=1) <= border
    wanted = F.one_hot(inside.long(), 2).float()
    x, y = all_points[:points], wanted[:points]
    model = sigmoid_network((2, *hidden, 2), seed=seed)
    steps = train(
        model, x, y, as_good(x, y, SHAPES[kind]), batch_size=50, learning_rate=0.01, most_epochs=most_epochs, seed=seed,
        progress=progress,
    )  # fmt: skip
    return Task(kind, model.eval(), x, y, all_points[points:], wanted[points:], steps)


DIGITS = {0: 0.9757, 1: 0.9881, 2: 0.9513}
"""Digits with the accuracy at which the paper stops training."""


def one_digit(
    digit: int,
    *,
    wanted: float | None = None,
    hidden: int = 100,
    images: int = 60000,
    held: int = 10000,
    largest: float = 255.0,
    start: str = "torch",
    seed: int = 0,
    most_epochs: int = 20,
    progress: Progress | None = None,
) -> Task:
    """One digit of MNIST against the rest, raw pixels from 0 to 255, two softmax outputs (no, yes), stopped early.

    Silent in the paper: sigmoid hidden units, SGD 0.01 on batches of 32; accuracy is looked at every 100 steps on the
    first 5,000 images.

    Args:
        digit: whose images are to be told from the others.
        wanted: accuracy at which training stops; the paper's by default.
        hidden: width of the hidden layer.
        images: trained on, of MNIST's training part.
        held: images held out, of MNIST's test part.
        largest: value of a white pixel.
        start: see `sigmoid_network`.
        seed: of images, start and order.
        most_epochs: see `train`.
        progress: called while the network is trained.

    Source: Wolfe et al. (2016), section 4.5.
    """
    split, draw = _mnist(), torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split.train_inputs), generator=draw)[:images]
    x, y = _up_to(largest, split.train_inputs[chosen]), _against(split.train_targets[chosen], digit)
    model = sigmoid_network((784, hidden, 2), softmax=True, seed=seed, start=start)
    steps = train(
        model, x, y, as_good(x[:5000], y[:5000], DIGITS[digit] if wanted is None else wanted), batch_size=32,
        learning_rate=0.01, most_epochs=most_epochs, optimizer="sgd", check=100, seed=seed, progress=progress,
    )  # fmt: skip
    outer = _up_to(largest, split.test_inputs[:held]), _against(split.test_targets[:held], digit)
    return Task(f"digit {digit}", model.eval(), x, y, *outer, steps)


@functools.lru_cache(1)
def _mnist() -> Split:
    """MNIST, read once in a process; its tensors are not changed."""
    return mnist()


def _small(images: Tensor) -> Tensor:
    return F.interpolate(images, (20, 20), mode="area").flatten(1)


def _up_to(largest: float, images: Tensor) -> Tensor:
    return largest * images.flatten(1)


def _against(targets: Tensor, digit: int) -> Tensor:
    return F.one_hot((targets == digit).long(), 2).float()


def _layers(hidden: tuple[int, ...]) -> str:
    return f"{len(hidden)}x{hidden[0]}" if len(set(hidden)) == 1 else "-".join(map(str, hidden))
