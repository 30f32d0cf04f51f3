"""Gradual pruning inside the real Lightning trainer."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from deadhead.errors import DeadheadError
from deadhead.integrations import lightning as lightning_callback
from deadhead.integrations.lightning import LIBRARY, PruningCallback
from deadhead.training.masking.schedule import Schedule

INSTALLED = [name for name in LIBRARY if importlib.util.find_spec(name.split(".")[0])]
needs_lightning = pytest.mark.skipif(not INSTALLED, reason="neither lightning nor pytorch_lightning is installed")


def tables() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(48, 3, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def batches() -> list[tuple[Tensor, Tensor]]:
    inputs, targets = tables()
    return [(inputs[:16], targets[:16]), (inputs[16:32], targets[16:32])]


def module(nested: bool = False) -> Any:
    pl = importlib.import_module(INSTALLED[0])

    class Classifier(pl.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(3, 10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 8, bias=False), nn.ReLU(), nn.Linear(8, 2)
            )

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.02, weight_decay=0.1)

    class Callable(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)  # type: ignore[no-any-return]

    return Classifier() if nested else Callable()


def fit(model: Any, callback: Any, folder: Path, resume: Path | None = None, **options: Any) -> Any:
    pl = importlib.import_module(INSTALLED[0])
    logging.getLogger(INSTALLED[0]).setLevel(logging.ERROR)
    given = {
        "max_epochs": 4, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": str(folder),
    }  # fmt: skip
    callbacks = [callback, *options.pop("beside", [])]
    trainer = pl.Trainer(**{**given, **options}, callbacks=callbacks)
    loader = DataLoader(TensorDataset(*tables()), batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        trainer.fit(model, loader, ckpt_path=None if resume is None else str(resume))
    return trainer


@needs_lightning
@pytest.mark.parametrize("cut", ["end", "as it goes"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_module_is_pruned_by_epochs_and_comes_out_smaller(tmp_path: Path, cut: str, nested: bool) -> None:
    model = module(nested)
    schedule = Schedule({1: 0.8, 3: 0.5})
    callback = PruningCallback(schedule, batches(), "cross_entropy", part="net" if nested else "", cut=cut)
    trainer = fit(model, callback, tmp_path)
    assert callback.gradual is not None
    assert [(each.epoch, each.step, each.units) for each in callback.gradual.rounds] == [(1, 3, 14), (3, 9, 9)]
    assert callback.pruned is not None
    small = callback.pruned.model if nested else callback.pruned.model.net
    assert [small[0].out_features, small[3].out_features] == [5, 4]
    assert model.net[0].out_features == (10 if cut == "end" else 5)
    x = tables()[0]
    torch.testing.assert_close(small.eval()(x), model.net.eval()(x), rtol=1e-5, atol=1e-6)
    assert float(trainer.callback_metrics["units_open"]) == 9


@needs_lightning
def test_steps_are_those_of_the_optimizer_when_gradients_accumulate(tmp_path: Path) -> None:
    model = module()
    callback = PruningCallback(Schedule({2: 0.5}, every="step"), batches(), "cross_entropy")
    fit(model, callback, tmp_path, accumulate_grad_batches=3, gradient_clip_val=0.1)
    assert callback.gradual is not None
    assert callback.gradual.steps == 4
    assert [(each.epoch, each.step) for each in callback.gradual.rounds] == [(1, 2)]
    assert int((model.net[0].weight == 0).all(1).sum()) == 5


@needs_lightning
@pytest.mark.parametrize("cut", ["end", "as it goes"])
def test_a_run_that_is_resumed_from_a_checkpoint_ends_with_the_same_bits(tmp_path: Path, cut: str) -> None:
    checkpoints = importlib.import_module(f"{INSTALLED[0]}.callbacks")
    schedule = Schedule({1: 0.8, 3: 0.5})

    def callback() -> Any:
        return PruningCallback(schedule, batches(), "cross_entropy", part="net", cut=cut)

    whole, first = module(nested=True), callback()
    whole.net[2].p = 0.0  # Lightning does not put random numbers back
    keep = checkpoints.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    fit(whole, first, tmp_path, beside=[keep], enable_checkpointing=True)
    resumed, second = module(nested=True), callback()
    resumed.net[2].p = 0.0
    fit(resumed, second, tmp_path, resume=tmp_path / "epoch=1.ckpt")
    assert [(each.epoch, each.units) for each in second.gradual.rounds] == [(1, 14), (3, 9)]
    expected, found = whole.state_dict(), resumed.state_dict()
    assert "net.3.bias" in expected
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert first.pruned.plan.order == second.pruned.plan.order


def test_without_the_library_the_callback_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_callback, "LIBRARY", ("missing_lightning.pytorch", "missing_pytorch_lightning"))
    with pytest.raises(DeadheadError, match=r"needs missing_lightning, .*: pip install lightning\."):
        PruningCallback({1: 0.5}, batches(), "cross_entropy")
