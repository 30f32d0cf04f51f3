"""A recovery that was ended goes on with the same call, to the bits of one that was not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import deadhead as dh
from deadhead.training.recovering.checkpoint import load_checkpoint, save_checkpoint
from deadhead.training.recovering.recover import recover
from deadhead.training.recovering.recovery import CHECKPOINT, HISTORY
from support.snapshot import bits

INPUTS = torch.randn(90, 4, generator=torch.Generator().manual_seed(1))
DATA = (INPUTS, (INPUTS[:, 0] > 0).long())
EPOCHS = 3


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


class Noisy(Dataset[Any]):
    """Samples with noise from all three random generators, as augmentations draw it."""

    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(4) + torch.from_numpy(np.random.rand(4)).float() + random.random()
        return INPUTS[index] + 0.1 * noise, DATA[1][index]


class EndedError(Exception):
    """Raised on purpose."""


def ended_after(batches: int) -> Callable[[str, int, int], None]:
    def progress(step: str, done: int, total: int) -> None:
        if done == batches:
            raise EndedError

    return progress


Call = Callable[..., Any]


def train(folder: Path | None, kind: str = "adamw", data: Any = DATA, **options: Any) -> list[Any]:
    """All that a recovery gives, but for the seconds."""
    model = options.pop("model", None) or network()
    made = {
        "adamw": lambda: torch.optim.AdamW(model.parameters(), 0.02, amsgrad=True),
        "sgd": lambda: torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True),
        "lbfgs": lambda: torch.optim.LBFGS(model.parameters(), 0.2, max_iter=2, history_size=3),
    }
    optimizer = made[kind]()
    made_from: dict[str, Any] = {"epochs": EPOCHS, "schedule": "cosine", "save_every": 2, "clip": 1.0}
    if not isinstance(data, DataLoader):
        made_from["batch_size"] = 16
    recovered = recover(model, data, optimizer=optimizer, folder=folder, **{**made_from, **options})
    history = [(e.number, e.train_loss, e.held_out_loss, e.accuracy) for e in recovered.history]
    return [[bits(tensor) for tensor in model.state_dict().values()], history, recovered.best_epoch, recovered.stopped]


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lbfgs"])
@pytest.mark.parametrize("batches", [1, 5, 8, 14])
def test_it_goes_on_to_the_same_bits(kind: str, batches: int, tmp_path: Path) -> None:
    with pytest.raises(EndedError):
        train(tmp_path, kind, progress=ended_after(batches))
    seen: list[int] = []
    assert train(tmp_path, kind, progress=lambda step, done, total: seen.append(done)) == train(None, kind)
    assert seen[0] == {1: 0, 5: 4, 8: 7, 14: 12}[batches], "it went on from the last checkpoint"


LOADERS: dict[str, Callable[[], DataLoader[Any]]] = {
    "augmented": lambda: DataLoader(Noisy(), 16, shuffle=True),
    "own generator": lambda: DataLoader(Noisy(), 16, shuffle=True, generator=torch.Generator().manual_seed(9)),
    "weighted": lambda: DataLoader(
        Noisy(), 16, sampler=torch.utils.data.WeightedRandomSampler(torch.linspace(0.1, 1, 90).tolist(), 90)
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_goes_on_in_the_middle_of_an_epoch(name: str, tmp_path: Path) -> None:
    with pytest.raises(EndedError):
        train(tmp_path, data=LOADERS[name](), progress=ended_after(9))
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    assert train(tmp_path, data=LOADERS[name]()) == train(None, data=LOADERS[name]())


def test_it_goes_on_towards_an_intact_network_and_with_patience(tmp_path: Path) -> None:
    def call(folder: Path | None, **more: Any) -> list[Any]:
        intact = network(3)
        options = {
            "targets": "intact",
            "intact": intact,
            "patience": 1,
            "schedule": lambda part: 1 if part < 0.5 else -1,
        }
        return train(folder, "sgd", **{**options, "epochs": 6, **more})

    with pytest.raises(EndedError):
        call(tmp_path, progress=ended_after(12))
    found = call(tmp_path)
    assert found == call(None)
    assert found[3] is not None, "patience ended it"


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
import torch
torch.set_num_threads(1)
from test_recover_resumed import train
def progress(step, done, total):
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
train(Path({folder!r}), progress=progress)
"""


def test_a_process_that_was_killed_goes_on_in_another(tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = SCRIPT.format(tests=str(here.parents[1]), here=str(here), folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not load_checkpoint(tmp_path / CHECKPOINT)["at"]["is_finished"]
    assert train(tmp_path) == train(None)


def test_a_recovery_that_ended_is_returned_again_without_training(tmp_path: Path) -> None:
    model, seen = network(), []
    first = train(tmp_path, model=model)
    again = train(tmp_path, progress=lambda *event: seen.append(event))
    same_model = train(tmp_path, model=model, progress=lambda *event: seen.append(event))
    assert first == again == same_model
    assert seen == []
    assert (tmp_path / HISTORY).read_text().count('"number"') == EPOCHS + 1
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, HISTORY}


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"epochs": 4}, "with epochs 3 where it is 4 now"),
    "seed": ({"seed": 1}, "with seed 0 where it is 1 now"),
    "optimizer": ({"kind": "sgd"}, "with optimizer AdamW where it is SGD now"),
    "clip": ({"clip": 2.0}, "with clip 1.0 where it is 2.0 now"),
    "weights": ({"model": network(5)}, "network with other weights"),
    "data": ({"data": (INPUTS[:50], DATA[1][:50])}, "with batches 5 where it is 3 now"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_folder_of_another_call_is_refused(name: str, tmp_path: Path) -> None:
    options, sentence = OTHERS[name]
    train(tmp_path)
    with pytest.raises(dh.LoadError, match=sentence):
        train(tmp_path, **options)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(dh.LoadError, match="is damaged"):
        train(tmp_path)


def test_a_checkpoint_holds_values_exactly_and_names_what_it_cannot_hold(tmp_path: Path) -> None:
    value = {
        "numbers": [1, 0.1, float("inf"), True, None], 3: ("a", [torch.tensor([float("nan"), -0.0])]),
        "types": [torch.ones(2, dtype=each) for each in (torch.bfloat16, torch.bool, torch.int64)],
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }  # fmt: skip
    save_checkpoint(tmp_path / "value", value)
    found = load_checkpoint(tmp_path / "value")
    assert (found["numbers"], found[3][0], type(found[3])) == (value["numbers"], "a", tuple)
    assert bits(found[3][1][0]) == bits(torch.tensor([float("nan"), -0.0]))
    assert [bits(each) for each in found["types"]] == [bits(each) for each in value["types"]]
    assert bits(found["turned"]) == bits(value["turned"])
    with safetensors.safe_open(tmp_path / "value", "pt") as file:
        assert "deadhead" in file.metadata()
    with pytest.raises(dh.DataError, match="A function in the optimizer's state cannot be written"):
        save_checkpoint(tmp_path / "other", {"hook": F.relu})
    assert not (tmp_path / "other").exists()


def test_the_state_of_a_lower_precision_comes_back_as_it_was(tmp_path: Path) -> None:
    """float32 momentum of a bfloat16 parameter is not rounded."""
    from deadhead.training.recovering.checkpoint import optimizer_state, put_optimizer_state

    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    optimizer.state[parameter] = {"momentum_buffer": torch.tensor([1.0001, 2.0, 3.0])}
    save_checkpoint(tmp_path / "state", optimizer_state(optimizer))
    other = torch.optim.SGD([parameter], 0.7, momentum=0.1)
    put_optimizer_state(other, load_checkpoint(tmp_path / "state"))
    assert bits(other.state[parameter]["momentum_buffer"]) == bits(torch.tensor([1.0001, 2.0, 3.0]))
    assert (other.param_groups[0]["lr"], other.param_groups[0]["momentum"]) == (0.1, 0.9)


def test_a_pruned_network_is_recovered_saved_and_loaded(tmp_path: Path) -> None:
    model = network()
    pruned = dh.prune(model, [DATA], loss="cross_entropy", units=0.5, curve=0)
    recovered = recover(pruned, DATA, epochs=2, lr=0.02, folder=tmp_path / "run")
    recovered.pruned.save(tmp_path / "saved")  # type: ignore[union-attr]
    loaded = dh.load(tmp_path / "saved", network(8)).eval()
    assert torch.equal(loaded(INPUTS), recovered.model.eval()(INPUTS))
    assert len(TensorDataset(*DATA)) == 90
