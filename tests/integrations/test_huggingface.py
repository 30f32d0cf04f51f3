"""Gradual pruning inside the real `transformers.Trainer`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deadhead.errors import DataError, DeadheadError, LossError
from deadhead.integrations import huggingface
from deadhead.integrations.huggingface import FILE, PruningCallback
from deadhead.integrations.own_loss import own_loss, shift
from deadhead.training.masking.schedule import Schedule

HAS_TRAINER = all(importlib.util.find_spec(name) for name in ("transformers", "accelerate"))
needs_trainer = pytest.mark.skipif(not HAS_TRAINER, reason="transformers.Trainer needs transformers and accelerate")
needs_models = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers is missing")

Rows = list[dict[str, Tensor]]


def bert(kind: str = "BertForSequenceClassification", **options: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=16, **options,
    )  # fmt: skip
    return getattr(transformers, kind)(config)


def gpt() -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=16, n_inner=24)
    return transformers.GPT2LMHeadModel(config)


def rows(count: int = 32, causal: bool = False) -> Rows:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(40, (count, 7), generator=generator)
    return [{"input_ids": row, "labels": row.clone() if causal else row[0] % 2} for row in tokens]


def batches(count: int = 2, causal: bool = False) -> Rows:
    found = rows(count * 8, causal)
    return [
        {name: torch.stack([row[name] for row in found[8 * place : 8 * place + 8]]) for name in found[0]}
        for place in range(count)
    ]


def arguments(folder: Path, **options: Any) -> Any:
    import transformers

    given = {
        "num_train_epochs": 3, "per_device_train_batch_size": 8, "save_strategy": "no", "report_to": [],
        "use_cpu": True, "disable_tqdm": True, "logging_steps": 2, "learning_rate": 1e-2, "weight_decay": 0.1,
        "dataloader_num_workers": 0,
    }  # fmt: skip
    return transformers.TrainingArguments(output_dir=str(folder), **{**given, **options})


def trainer(model: nn.Module, callback: Any, folder: Path, causal: bool = False, **options: Any) -> Any:
    import transformers

    return transformers.Trainer(
        model=model, args=arguments(folder, **options), train_dataset=rows(causal=causal), callbacks=[callback]
    )


ONLY = ["*intermediate*"]


EXHAUSTIVE = pytest.mark.exhaustive


@needs_trainer
@pytest.mark.parametrize("cut", ["end", pytest.param("as it goes", marks=EXHAUSTIVE)])
def test_a_classifier_is_pruned_by_epochs_and_comes_out_smaller(tmp_path: Path, cut: str) -> None:
    model = bert()
    callback = PruningCallback(Schedule({1: 0.75, 2: 0.5}), batches(), only=ONLY, cut=cut)
    assert callback.pruned is None
    run = trainer(model, callback, tmp_path)
    run.train()
    assert callback.gradual is not None
    assert callback.gradual.loss == "cross_entropy"
    assert [(each.epoch, each.step, each.units) for each in callback.gradual.rounds] == [(1, 4, 18), (2, 8, 12)]
    assert callback.pruned is not None
    up = callback.pruned.model.bert.encoder.layer[0].intermediate.dense
    assert up.weight.shape == (12, 16)
    assert model.bert.encoder.layer[0].intermediate.dense.weight.shape == ((24, 16) if cut == "end" else (12, 16))
    batch = {name: value for name, value in batches()[0].items() if name != "labels"}
    torch.testing.assert_close(
        callback.pruned.model.eval()(**batch).logits, model.eval()(**batch).logits, rtol=1e-4, atol=1e-5
    )
    assert run.state.log_history[-2]["units_open"] == 12


@needs_trainer
def test_a_causal_language_model_is_pruned_by_steps_on_the_next_position(tmp_path: Path) -> None:
    model = gpt()
    schedule = Schedule({3: 0.75, 6: 0.5}, every="step")
    callback = PruningCallback(schedule, batches(causal=True), only=["*mlp*"], cut="as it goes")
    trainer(model, callback, tmp_path, causal=True, max_steps=8).train()
    assert callback.gradual is not None
    assert [(each.step, each.units) for each in callback.gradual.rounds] == [(3, 18), (6, 12)]
    assert callback.pruned is not None
    assert callback.pruned.model.transformer.h[0].mlp.c_fc.weight.shape == (16, 12)


@needs_trainer
@pytest.mark.parametrize("cut", ["as it goes", pytest.param("end", marks=EXHAUSTIVE)])
def test_a_run_that_is_resumed_from_a_checkpoint_ends_with_the_same_bits(tmp_path: Path, cut: str) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}
    schedule = Schedule({1: 0.75, 2: 0.5})

    def callback() -> Any:
        return PruningCallback(schedule, batches(), only=ONLY, cut=cut)

    whole = bert()
    first = callback()
    trainer(whole, first, tmp_path, **options).train()
    assert (tmp_path / "checkpoint-8" / FILE).exists()
    resumed, second = bert(), callback()
    second.resume(resumed, tmp_path / "checkpoint-8")
    trainer(resumed, second, tmp_path / "other", **options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert [each.units for each in second.gradual.rounds] == [18, 12]
    expected, found = whole.state_dict(), resumed.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert first.pruned.plan.order == second.pruned.plan.order


@needs_trainer
def test_the_models_own_number_for_a_batch_is_enough_for_criteria_that_need_no_loss_of_samples(tmp_path: Path) -> None:
    model = bert()
    callback = PruningCallback({1: 0.5}, batches(), "model", only=ONLY, criterion="activation_std")
    trainer(model, callback, tmp_path, num_train_epochs=1).train()
    assert callback.pruned is not None
    assert callback.pruned.model.bert.encoder.layer[0].intermediate.dense.out_features == 12
    assert callback.pruned.report.after.loss > 0


@needs_trainer
def test_mixed_precision_and_accumulated_gradients_go_with_it(tmp_path: Path) -> None:
    model = bert()
    callback = PruningCallback({1: 0.5}, batches(), only=ONLY)
    trainer(model, callback, tmp_path, bf16=True, gradient_accumulation_steps=2, num_train_epochs=2).train()
    up = model.bert.encoder.layer[0].intermediate.dense
    assert callback.gradual is not None
    assert callback.gradual.steps == 4
    assert int((up.weight == 0).all(1).sum()) == 12
    assert callback.pruned is not None
    batch = {name: value for name, value in batches()[0].items() if name != "labels"}
    full = vars(model)["_original_forward"]  # without autocast
    torch.testing.assert_close(
        callback.pruned.model.eval()(**batch).logits, model.eval() and full(**batch).logits, rtol=1e-4, atol=1e-6
    )


@needs_trainer
def test_what_would_open_closed_units_or_has_no_checkpoint_is_refused(tmp_path: Path) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    callback = PruningCallback({1: 0.5}, batches(), only=ONLY)
    run = trainer(bert(), callback, tmp_path)
    for name, value in best.items():
        setattr(run.args, name, value)
    with pytest.raises(DataError, match="load_best_model_at_end would put earlier weights"):
        callback.on_train_begin(run.args, run.state, run.control, model=run.model, optimizer=None)
    run.args.load_best_model_at_end, run.state.global_step = False, 3
    with pytest.raises(DataError, match="no pruning was saved"):
        callback.on_train_begin(run.args, run.state, run.control, model=run.model, optimizer=None)


TOKENS = {"input_ids": torch.arange(12).view(2, 6)}


@needs_models
@pytest.mark.parametrize(
    ("kind", "options", "labels", "name"),
    [
        ("BertForSequenceClassification", {"num_labels": 3}, torch.tensor([0, 2]), "cross_entropy"),
        ("BertForSequenceClassification", {"num_labels": 1}, torch.tensor([0.5, -2.0]), "mse"),
        (
            "BertForSequenceClassification", {"num_labels": 3, "problem_type": "multi_label_classification"},
            torch.tensor([[0.0, 1, 1], [1, 0, 0]]), "binary_cross_entropy",
        ),
        ("BertForTokenClassification", {"num_labels": 3}, torch.arange(12).view(2, 6) % 3, "cross_entropy"),
        ("BertForMaskedLM", {}, torch.tensor([[-100, 3, -100, -100, 8, 1]] * 2), "cross_entropy"),
    ],
)  # fmt: skip
def test_the_models_own_loss_is_found(kind: str, options: dict[str, Any], labels: Tensor, name: str) -> None:
    data = [{**TOKENS, "labels": labels}]
    found, given = own_loss(bert(kind, **options), data)
    assert found == name
    assert given is data


@needs_models
def test_the_loss_of_a_causal_language_model_compares_with_the_next_position() -> None:
    model = gpt()
    labels = TOKENS["input_ids"].clone()
    labels[:, :2] = -100
    name, given = own_loss(model, [{**TOKENS, "labels": labels}])
    assert name == "cross_entropy"
    [batch] = given
    assert torch.equal(batch["labels"], shift(labels))
    assert batch["labels"].tolist()[0] == [-100, 2, 3, 4, 5, -100]


@needs_models
def test_a_loss_of_its_own_kind_and_missing_labels_are_refused() -> None:
    model = bert()
    model.config.problem_type = "single_label_classification"
    original = model.forward

    def forward(**given: Any) -> Any:
        outputs = original(**given)
        outputs["loss"] = outputs["loss"] * 2
        return outputs

    model.forward = forward
    with pytest.raises(LossError, match="computes itself is none of"):
        own_loss(model, [{**TOKENS, "labels": torch.tensor([0, 1])}])
    with pytest.raises(DataError, match="with labels"):
        own_loss(model, [TOKENS])


def test_without_the_library_the_callback_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "LIBRARY", ("library_that_is_missing",))
    with pytest.raises(
        DeadheadError, match=r"needs library_that_is_missing, .*: pip install library_that_is_missing\."
    ):
        PruningCallback({1: 0.5}, batches())


def test_deadhead_imports_neither_library() -> None:
    code = (
        "import sys, deadhead, deadhead.integrations; print([n for n in sys.modules if n.split('.')[0] in "
        "('transformers', 'accelerate', 'lightning', 'pytorch_lightning')])"
    )
    source = str(Path(sys.modules["deadhead"].__file__ or "").parents[1])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.stdout.decode().strip() == "[]", done.stderr
