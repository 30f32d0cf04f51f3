"""A story: train, prune, save, load in another process, train on with the optimizer that was cut along, prune and save
again, load from the intact class."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.cut.surgery import surgery_behind
from support.networks import classes
from support.snapshot import bits, same

DATA = classes(48, 1, 8, 8, batch=16)


class Net(nn.Module):
    """A small network as users write them: (n, 1, 8, 8) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1, bias=False)
        self.fc1 = nn.Linear(16 * 4, 20)
        self.fc2 = nn.Linear(20, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(torch.tanh(self.fc1(x.flatten(1))))


def intact() -> Net:
    torch.manual_seed(0)
    return Net().double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> list[float]:
    model.train()
    seen = []
    for _ in range(epochs):
        for inputs, targets in DATA:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
    model.eval()
    return seen


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.05)


def pruned_again(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> dh.Pruned:
    """Another prune, saved with the state of the optimizer as users save it."""
    pruned = dh.prune(model, DATA, loss="cross_entropy", units=0.6, criterion="magnitude", curve=0, optimizer=optimizer)
    assert pruned.optimizer is not None
    pruned.save(folder)
    torch.save(pruned.optimizer.state_dict(), folder / "optimizer.pt")
    return pruned


def resumed(folder: Path) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Model and optimizer of a folder, from the intact class."""
    model = dh.load(folder, intact())
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt"))
    return model, optimizer


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dh.Pruned]:
    """The folder of the first prune, and its result."""
    folder = tmp_path_factory.mktemp("story")
    model = intact()
    optimizer = optimizer_of(model)
    train(model, optimizer, 4)
    return folder, pruned_again(model, optimizer, folder / "first")


def test_the_model_goes_on_in_another_process_and_comes_back(story: tuple[Path, dh.Pruned]) -> None:
    folder, first = story
    assert first.surgery.biases, "biases that were added go the whole way"
    tests = Path(__file__).parent.parent
    paths = os.pathsep.join([str(Path(dh.__file__).parent.parent), str(tests), str(tests / "pruning")])
    code = (
        "import sys, pathlib, torch\n"
        "import test_again as story\n"
        "torch.set_num_threads(1)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "model, optimizer = story.resumed(folder / 'first')\n"
        "losses = story.train(model, optimizer, 2)\n"
        "pruned = story.pruned_again(model, optimizer, folder / 'second')\n"
        "torch.save((losses, pruned.model(story.DATA[0][0])), folder / 'seen.pt')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    losses, outputs = torch.load(folder / "seen.pt")

    model, optimizer = resumed(folder / "first")
    assert same(model, first.model)
    assert train(model, optimizer, 2) == losses, "training goes on as in the other process"
    second, trainer = resumed(folder / "second")
    second.eval()
    assert bits(second(DATA[0][0])) == bits(outputs)
    assert sum(p.numel() for p in second.parameters()) < sum(p.numel() for p in model.parameters())

    third = pruned_again(second, trainer, folder / "third")
    found, trainer = resumed(folder / "third")
    assert same(found, third.model)
    assert surgery_behind(found) == third.surgery
    seen = train(found, trainer, 3)
    assert sum(seen[-3:]) < sum(seen[:3])


def test_training_on_after_loading_is_training_on_without_a_pause(story: tuple[Path, dh.Pruned]) -> None:
    folder, first = story
    model, optimizer = resumed(folder / "first")
    assert first.optimizer is not None
    assert train(first.model, first.optimizer, 1) == train(model, optimizer, 1)
    for ours, theirs in zip(first.model.parameters(), model.parameters(), strict=True):
        assert bits(ours) == bits(theirs)
        for key, value in first.optimizer.state[ours].items():
            assert bits(value) == bits(optimizer.state[theirs][key]), key
