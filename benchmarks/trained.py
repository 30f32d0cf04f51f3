"""The networks of quality.py: how they are built and trained, on what; trained weights are kept between runs."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from networks import Transformer, resnet20
from torch import Tensor, nn

from deadhead.lab.data import Split, cifar10_jpeg, mnist
from deadhead.lab.models import small_cnn

TEST = 5000
Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """A network to be built after a seed, its data, how it is trained, and the layers whose outputs
    Torch-Pruning is to leave alone."""

    build: Callable[[], nn.Module]
    train: Data
    test: Data
    steps: int
    batch: int
    rate: float
    loss: str = "cross_entropy"
    decay: bool = True
    ignored: Callable[[str], bool] = lambda name: False
    after: int = 0
    calibration: int = 2500


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def small(pixels: int, colours: int) -> nn.Module:
    """The small CNN of Evci (2018) for images of other sizes."""
    model = small_cnn()
    model.conv1 = nn.Conv2d(colours, 8, 5)
    model.fc1 = nn.Linear(16 * ((pixels - 12) // 4) ** 2, 64)
    return model


def pictures(
    split: Split, rows: int, build: Callable[[], nn.Module], steps: int, batch: int, rate: float, last: str, **more: int
) -> Case:
    sets = (split.train_inputs, split.train_targets), (split.test_inputs[:rows], split.test_targets[:rows])
    return Case(build, *sets, steps, batch, rate, ignored=last.__eq__, **more)


def perceptron(*sizes: int) -> Case:
    """The networks of Wolfe et al. (2016), trained as in oracle.py."""
    split = mnist()

    def prepared(images: Tensor, targets: Tensor) -> Data:
        small = F.interpolate(images[:5000], (20, 20), mode="area").flatten(1)
        return small, F.one_hot(targets[:5000], 10).float()

    def build() -> nn.Module:
        return nn.Sequential(*[x for i, o in itertools.pairwise(sizes) for x in (nn.Linear(i, o), nn.Sigmoid())])

    train, test = prepared(split.train_inputs, split.train_targets), prepared(split.test_inputs, split.test_targets)
    last = str(2 * len(sizes) - 4)
    return Case(build, train, test, 6000, 50, 3e-3, "squared_error", False, last.__eq__, after=100)


def characters() -> Case | None:
    folder = Path(os.environ.get("DEADHEAD_DATA", "")).expanduser().resolve().parent / "seeds"
    documents = sorted(folder.glob("*.txt"))
    if not documents:
        print(f"transformer: skipped, there are no documents in {folder}.")
        return None
    texts = [path.read_text(encoding="utf-8") for path in documents]
    place = {character: index for index, character in enumerate(sorted(set("".join(texts))))}
    parts = ("".join(t[: -len(t) // 10] for t in texts), "".join(t[-len(t) // 10 :] for t in texts))
    windows = [torch.tensor([place[c] for c in part]).unfold(0, 65, 13) for part in parts]
    windows[0] = windows[0][torch.randperm(len(windows[0]), generator=torch.Generator().manual_seed(0))]
    train, test = ((rows[:, :-1].contiguous(), rows[:, 1:].contiguous()) for rows in windows)
    return Case(
        lambda: Transformer(len(place)), train, test, 800, 48, 3e-3,
        ignored=lambda name: name.endswith((".out", ".down", "head")), calibration=640,
    )  # fmt: skip


CASES: dict[str, Callable[[], Case | None]] = {
    "mnist": lambda: pictures(mnist(), 10000, lambda: small(28, 1), 12000, 50, 2e-3, "fc2", after=1200),
    "two": lambda: perceptron(400, 50, 50, 10),
    "one": lambda: perceptron(400, 100, 10),
    "transformer": characters,
    "cifar": lambda: pictures(cifar10_jpeg(), TEST, lambda: small(32, 3), 5000, 50, 2e-3, "fc2"),
    "resnet20": lambda: pictures(cifar10_jpeg(), 1000, resnet20, 390, 128, 5e-3, "fc", after=100, calibration=1000),
}


def loss_of(case: Case, outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean loss, as deadhead names it."""
    if case.loss == "squared_error":
        return 0.5 * (outputs - targets).square().sum(1).mean()
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def train(case: Case, model: nn.Module, steps: int, rate: float, decay: bool, seed: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    inputs, targets = case.train
    order: list[Tensor] = []
    model.train()
    for step in range(steps):
        if not order:
            generator = torch.Generator().manual_seed(1000 * seed + step * case.batch // len(inputs))
            order = list(torch.randperm(len(inputs), generator=generator).split(case.batch))[::-1]
        if decay:
            optimizer.param_groups[0]["lr"] = rate * min(1, (steps - step) / (0.7 * steps))
        rows = order.pop()
        optimizer.zero_grad()
        loss_of(case, model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
        if step % 500 == 499:
            say(f"  training: step {step + 1} of {steps}")
    model.eval()


def trained(name: str, case: Case, seed: int) -> nn.Module:
    """The network with its weights from the cache, or trained and kept there."""
    torch.manual_seed(seed)
    model = case.build().eval()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deadhead" / "benchmarks"
    path = folder / f"{name}-{case.steps}-{seed}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        say(f"{name}, seed {seed}: training")
        train(case, model, case.steps, case.rate, case.decay, seed)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    return model


def measured(case: Case, model: nn.Module, data: Data | None = None) -> tuple[float, float]:
    """Accuracy and mean loss, by default on the test samples."""
    inputs, targets = data or case.test
    accuracy = loss = 0.0
    with torch.no_grad():
        for x, t in zip(inputs.split(500), targets.split(500), strict=True):
            outputs = model(x)
            classes = t.argmax(1) if t.is_floating_point() else t
            accuracy += (outputs.argmax(-1) == classes).float().mean().item() * len(t)
            loss += loss_of(case, outputs, t).item() * len(t)
    return accuracy / len(inputs), loss / len(inputs)
