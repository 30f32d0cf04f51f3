"""What is saved is loaded to the bit, and a damaged folder is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import deadhead as dh
from support.networks import Flat, Residual, classes, mlp, unit_gain
from support.snapshot import Unharmed, bits, same

FAST: dict[str, Any] = {
    "loss": "cross_entropy",
    "criterion": "magnitude",
    "units": 0.5,
    "compensate": "zero",
    "curve": 0,
}
DATA = classes(24, 2, 5, 5)


def residual() -> nn.Module:
    return unit_gain(Residual())


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dh.prune(residual(), DATA, **FAST).save(tmp_path_factory.mktemp("saved") / "saved")


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """A folder of this test's own with what was saved of a pruned `Residual`."""
    return Path(shutil.copytree(saved_once, tmp_path / "saved"))


def test_what_is_saved_is_loaded_to_the_bit(tmp_path: Path) -> None:
    pruned = dh.prune(residual(), DATA, loss="cross_entropy", units=0.5)
    folder = pruned.save(tmp_path / "inner" / "smaller")
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "surgery.json", "report.json"}
    other = Residual().double().train()
    found = dh.load(folder, other)
    assert same(found, pruned.model)
    assert found.training
    assert found is not other
    found.eval()
    assert bits(found(DATA[0][0])) == bits(pruned.model.eval()(DATA[0][0]))
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(pruned.report.to_dict()))


def test_loading_leaves_the_instance_given_as_it_is(saved: Path, unharmed: Unharmed) -> None:
    other = Residual().double()
    other.fc.bias.requires_grad_(False)
    with unharmed(other, saved):
        found = dh.load(saved, other)
    assert not found.fc.bias.requires_grad


class TiedEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.twin, self.last = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 3, bias=False)
        self.twin.weight = self.first.weight
        self.register_buffer("scale", torch.ones(8))
        self.register_buffer("secret", torch.arange(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)) * self.scale + torch.sin(self.twin(x))) + self.secret


@pytest.mark.parametrize("meta", [False, True])
def test_tied_weights_new_biases_and_buffers_come_back(meta: bool, tmp_path: Path) -> None:
    model = unit_gain(TiedEnds())
    pruned = dh.prune(model, classes(40, 3), loss="cross_entropy", units=0.5)
    assert pruned.model.last.bias is not None
    pruned.save(tmp_path)
    with torch.device("meta" if meta else "cpu"):
        other = TiedEnds().double()
    found = dh.load(tmp_path, other)
    assert found.twin.weight is found.first.weight
    assert isinstance(found.last.bias, nn.Parameter)
    assert not any(tensor.is_meta for tensor in [*found.parameters(), *found.buffers()])
    new = torch.randn(5, 3).double()
    assert bits(found.eval()(new)) == bits(pruned.model.eval()(new))


def test_saving_again_replaces_what_was_there(saved: Path) -> None:
    again = dh.prune(residual(), DATA, **{**FAST, "units": 0.3})
    again.save(saved)
    assert same(dh.load(saved, Residual().double()), again.model)
    assert not [path for path in saved.iterdir() if path.suffix == ".part"]


def damage_recipe(change: Any) -> Any:
    def damage(folder: Path) -> None:
        recipe = json.loads((folder / "surgery.json").read_text())
        change(recipe)
        (folder / "surgery.json").write_text(json.dumps(recipe))

    return damage


def drop_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    weights.pop("fc.bias")
    save_file(weights, folder / "weights.safetensors")


def add_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    save_file({**weights, "other": torch.zeros(2)}, folder / "weights.safetensors")


def shrink_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    save_file({**weights, "fc.bias": weights["fc.bias"][:2].clone()}, folder / "weights.safetensors")


BROKEN = {
    "no folder": lambda folder: [path.unlink() for path in folder.iterdir()] and folder.rmdir(),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "no surgery": lambda folder: (folder / "surgery.json").unlink(),
    "weights cut short": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:-40]
    ),
    "weights of nothing": lambda folder: (folder / "weights.safetensors").write_bytes(b""),
    "a pickle as weights": lambda folder: torch.save({"a": 1}, folder / "weights.safetensors"),
    "surgery cut short": lambda folder: (folder / "surgery.json").write_text(
        (folder / "surgery.json").read_text()[:-9]
    ),
    "surgery is a list": lambda folder: (folder / "surgery.json").write_text("[1, 2]"),
    "surgery is no text": lambda folder: (folder / "surgery.json").write_bytes(b"\xff\xfe\x00"),
    "another format": damage_recipe(lambda recipe: recipe.update(format=99)),
    "no format": damage_recipe(lambda recipe: recipe.pop("format")),
    "no keep": damage_recipe(lambda recipe: recipe["surgery"].pop("keep")),
    "keep of words": damage_recipe(lambda recipe: recipe["surgery"]["keep"].update({"fc.weight": "all"})),
    "entries beyond the end": damage_recipe(lambda recipe: recipe["surgery"]["keep"]["fc.weight"].update({"1": [99]})),
    "entries below zero": damage_recipe(lambda recipe: recipe["surgery"]["keep"]["fc.weight"].update({"1": [-9]})),
    "an axis below zero": damage_recipe(lambda recipe: recipe["surgery"]["keep"]["fc.weight"].update({"-3": [0]})),
    "a tensor of another model": damage_recipe(lambda recipe: recipe["surgery"]["keep"].update({"zz.w": {"0": [0]}})),
    "a setting of another model": damage_recipe(lambda recipe: recipe["surgery"]["settings"].append(["zz", "a", 1])),
    "a setting of three words": damage_recipe(lambda recipe: recipe["surgery"]["settings"].append(["fc"])),
    "a bias of another model": damage_recipe(lambda recipe: recipe["surgery"]["biases"].update({"zz.bias": 3})),
    "a bias of a size below zero": damage_recipe(lambda recipe: recipe["surgery"]["biases"].update({"a2.bias": -3})),
    "a bias where nothing is": damage_recipe(lambda recipe: recipe["surgery"]["biases"].update({"fc.x.y": 3})),
    "a tensor less": drop_a_tensor,
    "a tensor more": add_a_tensor,
    "a tensor too small": shrink_a_tensor,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_folder_is_refused_and_the_instance_left_as_it_is(how: str, saved: Path, unharmed: Unharmed) -> None:
    BROKEN[how](saved)
    other = Residual().double()
    with unharmed(other, saved.parent), pytest.raises(dh.LoadError) as caught:
        dh.load(saved, other)
    message = str(caught.value)
    assert "\n" not in message
    assert "saved" in message


@pytest.mark.parametrize("other", [lambda: Flat().double(), lambda: mlp(3, 4, 2), lambda: nn.Identity()])
def test_another_model_is_refused_by_name(other: Any, saved: Path, unharmed: Unharmed) -> None:
    model = other()
    with unharmed(model), pytest.raises(dh.LoadError, match=f"Residual.*{type(model).__name__}"):
        dh.load(saved, model)


def test_a_saved_folder_can_not_change_what_a_model_does(saved: Path) -> None:
    """Only sizes may be set: anything else in the settings is refused."""
    for path, attribute, value in (("", "forward", "x"), ("norm", "training", False), ("norm", "eps", 100.0)):
        damage_recipe(lambda recipe, s=(path, attribute, value): recipe["surgery"]["settings"].append(s))(saved)
        with pytest.raises(dh.LoadError):
            dh.load(saved, Residual().double())
        damage_recipe(lambda recipe: recipe["surgery"]["settings"].pop())(saved)
    dh.load(saved, Residual().double())


def test_a_save_that_fails_leaves_what_was_there(
    saved: Path, unharmed: Unharmed, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    other = dh.prune(residual(), DATA, **{**FAST, "units": 0.3})
    replace, calls = os.replace, []

    def full(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        other.save(saved)
    monkeypatch.undo()
    found = dh.load(saved, Residual().double())
    assert found.a1.out_channels in (1, 2)
    assert not [path for path in saved.iterdir() if path.suffix == ".part"]
