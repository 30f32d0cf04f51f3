"""A run that prunes while it trains, whole, or killed on the way and resumed in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.schedule import Schedule

STEPS, KILLED = 30, 17
SCHEDULE = {4: 0.9, 9: 0.7, 15: 0.6, 21: 0.5, 26: 0.3}


class Network(nn.Module):
    """A convolution with batch norm, and linear layers of which one has no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8 * 4, 10, bias=False)
        self.fc2 = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.conv(x)))
        return self.fc2(torch.sigmoid(self.fc1(x.flatten(1))))


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(8, 1, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(5)
    ]


class Run:
    """One run.

    Args:
        cut: when `Gradual` cuts.
        optimizer: "sgd" or "adamw".
    """

    def __init__(self, cut: str, optimizer: str) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.model, self.data = Network(), data()
        parameters = self.model.parameters()
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
        if optimizer == "sgd":
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        schedule = Schedule(SCHEDULE, every="step")
        self.gradual = Gradual(
            self.model, self.optimizer, self.data, loss="cross_entropy", schedule=schedule, cut=cut, samples=16
        )

    def train(self, until: int) -> None:
        self.model.train()
        while self.gradual.steps < until:
            inputs, targets = self.data[self.gradual.steps % len(self.data)]
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(inputs), targets).backward()
            self.optimizer.step()
            self.gradual.step()

    def save(self, path: Path) -> None:
        parts = {"gradual": self.gradual, "model": self.model, "optimizer": self.optimizer}
        torch.save({name: part.state_dict() for name, part in parts.items()}, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.gradual.load_state_dict(state["gradual"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def seen(self, *, open_units: bool) -> dict[str, Any]:
        """What there is in the end, and after all closed units were opened."""
        if open_units:
            self.gradual.masks.open()
        state = self.optimizer.state_dict()
        for group in state["param_groups"]:
            group["params"] = list(range(len(group["params"])))
        rounds = [(each.step, each.closed, each.units) for each in self.gradual.rounds]
        return {
            "model": self.model.state_dict(), "optimizer": state, "rounds": rounds, "closed": self.gradual.masks.closed,
            "added": self.model.fc1.bias is not None,
        }  # fmt: skip


def killed(folder: Path, cases: Sequence[tuple[str, str]]) -> None:
    """Train in another process, for each (cut, optimizer), which saves and is killed in the middle of a step."""
    command = [sys.executable, __file__, str(folder), *(word for case in cases for word in case)]
    source = str(Path(sys.modules["deadhead"].__file__ or "").parents[1])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr


if __name__ == "__main__":
    words = sys.argv[2:]
    for cut, optimizer in zip(words[::2], words[1::2], strict=True):
        run = Run(cut, optimizer)
        run.train(KILLED)
        run.save(Path(sys.argv[1]) / f"{cut} {optimizer}.pt")
    inputs, _ = run.data[0]
    run.model(inputs).sum().backward()
    os._exit(9)
