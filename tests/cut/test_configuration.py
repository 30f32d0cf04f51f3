"""Models made from a configuration: what `save_pretrained` writes after a prune can be read again, or the report says
that it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import deadhead as dh
from support.quick import each_of
from support.snapshot import Unharmed

transformers = pytest.importorskip("transformers")
from zoo.huggingface import ENTRIES, built  # noqa: E402

FAST = {"loss": lambda outputs, _: outputs[0].flatten(1).square().mean(1), "compensate": "zero", "curve": 0}


def logits(model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(**inputs)[0]
    return found


@pytest.mark.parametrize("name", each_of(["llama", "qwen2", "phi3", "mixtral", "mamba", "t5", "vit"], ["llama", "vit"]))
def test_a_pruned_model_goes_through_its_configuration(name: str, tmp_path: Path, unharmed: Unharmed) -> None:
    model, inputs = built(name), ENTRIES[name].inputs(4)
    config = model.config.to_dict()
    with unharmed(model):
        pruned = dh.prune(model, [inputs], units=0.5, criterion="magnitude", **FAST)
    assert model.config.to_dict() == config
    assert not any("configuration" in note for note in pruned.report.notes)
    pruned.save(tmp_path / "deadhead")
    loaded = dh.load(tmp_path / "deadhead", built(name))
    assert torch.equal(logits(loaded, inputs), logits(pruned.model, inputs))
    assert loaded.config.to_dict() == pruned.model.config.to_dict()
    pruned.model.save_pretrained(tmp_path / "transformers")
    back = type(model).from_pretrained(tmp_path / "transformers")
    assert torch.equal(logits(back, inputs), logits(pruned.model, inputs))


def test_a_configuration_that_cannot_say_what_is_left_is_told(tmp_path: Path) -> None:
    model, inputs = built("bert"), ENTRIES["bert"].inputs(4)
    pruned = dh.prune(model, [inputs], units=0.5, criterion="magnitude", **FAST)
    assert any("configuration of BertForSequenceClassification cannot say" in note for note in pruned.report.notes)
    assert pruned.model.config.to_dict() == model.config.to_dict()
    pruned.save(tmp_path)
    assert torch.equal(logits(dh.load(tmp_path, built("bert")), inputs), logits(pruned.model, inputs))


def test_layers_of_their_own_sizes_are_told_too() -> None:
    model, inputs = built("llama"), ENTRIES["llama"].inputs(4)
    units = {"model.layers.0.mlp*": 0.5}
    pruned = dh.prune(model, [inputs], units=units, criterion="magnitude", **FAST)
    assert any("cannot say" in note for note in pruned.report.notes)
    assert pruned.model.model.layers[0].mlp.gate_proj.out_features == 20
    assert pruned.model.model.layers[1].mlp.gate_proj.out_features == 40
