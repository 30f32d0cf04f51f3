from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from deadhead.errors import DataError, DeadheadError, LossError
from deadhead.lab import digits, digits_cnn, evaluate, fit
from deadhead.lab.train import DIGITS


def toy(rows: int = 33) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 4, generator=generator)
    return inputs, (inputs[:, 0] + inputs[:, 1] > 0).long()


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_training_is_the_same_for_a_seed_and_another_for_another() -> None:
    inputs, targets = toy()
    runs = []
    for seed, noise in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(noise)
        model = network()
        losses = fit(model, inputs, targets, epochs=3, batch_size=8, learning_rate=0.01, seed=seed)
        runs.append((losses, weights(model)))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][1], runs[2][1])


def test_training_leaves_generators_modes_and_gradients_as_they_were() -> None:
    inputs, targets = toy()
    model = network().eval()
    model[1].train()
    state = torch.random.get_rng_state()
    before = weights(model)
    fit(model, inputs, targets, epochs=1, batch_size=8, learning_rate=0.01, seed=0)
    assert not torch.equal(weights(model), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in model] == [False, True, False, False, False]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_sgd_is_gradient_descent_by_hand() -> None:
    inputs, targets = toy(12)
    model = nn.Linear(4, 2).double()
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    losses = fit(model, inputs.double(), targets, epochs=3, batch_size=12, learning_rate=0.5, optimizer="sgd", seed=0)
    onehot = torch.eye(2, dtype=torch.float64)[targets]
    for loss in losses:
        logits = inputs.double() @ weight.T + bias
        chances = logits.exp() / logits.exp().sum(1, keepdim=True)
        assert loss == pytest.approx(-(onehot * chances.log()).sum(1).mean().item(), rel=1e-12)
        error = (chances - onehot) / len(inputs)
        weight, bias = weight - 0.5 * error.T @ inputs.double(), bias - 0.5 * error.sum(0)
    torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.bias.detach(), bias, rtol=1e-10, atol=1e-12)


def test_loss_of_an_epoch_weighs_rows_and_not_batches() -> None:
    inputs, targets = toy(7)
    model = nn.Linear(4, 2)
    expected, _ = evaluate(model, inputs, targets)
    losses = fit(model, inputs, targets, epochs=1, batch_size=5, learning_rate=0.0, optimizer="sgd", seed=0)
    assert losses == pytest.approx([expected], rel=1e-6)


def test_last_batch_of_one_row_does_not_stop_batch_norm() -> None:
    inputs, targets = toy(33)
    events: list[tuple[str, int, int]] = []
    losses = fit(
        network(),
        inputs,
        targets,
        epochs=2,
        batch_size=8,
        learning_rate=0.01,
        seed=0,
        progress=lambda *event: events.append(event),
    )
    assert len(losses) == 2
    assert events[0] == ("training", 0, 8)
    assert events[-1] == ("training", 8, 8)


def test_frozen_parameters_stay() -> None:
    inputs, targets = toy()
    model = network()
    first = model[0]
    assert isinstance(first, nn.Linear)
    first.requires_grad_(False)
    before = first.weight.clone()
    fit(model, inputs, targets, epochs=1, batch_size=8, learning_rate=0.1, seed=0)
    assert torch.equal(first.weight, before)


def test_evaluate_is_the_mean_over_rows_in_eval_mode() -> None:
    inputs, targets = toy(2500)
    model = network().train()
    before = weights(model)
    loss, accuracy = evaluate(model, inputs, targets)
    assert model.training
    assert torch.equal(weights(model), before)
    model.eval()
    with torch.no_grad():
        logits = model(inputs).double()
    chances = logits.exp() / logits.exp().sum(1, keepdim=True)
    by_hand = [-math.log(row[target]) for row, target in zip(chances.tolist(), targets.tolist(), strict=True)]
    assert loss == pytest.approx(sum(by_hand) / 2500, rel=1e-6)
    assert accuracy == (logits.argmax(1) == targets).double().mean().item()


def test_refusals_are_sentences() -> None:
    inputs, targets = toy()
    model = network()

    def run(**changes: object) -> None:
        settings = {"epochs": 1, "batch_size": 8, "learning_rate": 0.01, "seed": 0, **changes}
        fit(model, inputs, targets, **settings)  # type: ignore[arg-type]

    with pytest.raises(DeadheadError, match="'lion': choose one of adam, sgd"):
        run(optimizer="lion")
    with pytest.raises(DeadheadError, match="batch_size is 0"):
        run(batch_size=0)
    with pytest.raises(DataError, match="no samples"):
        evaluate(model, inputs[:0], targets[:0])
    with pytest.raises(DataError, match="33 samples and targets has 32"):
        fit(model, inputs, targets[1:], epochs=1, batch_size=8, learning_rate=0.01, seed=0)
    with pytest.raises(LossError, match="mean loss of epoch 1 is nan: lower learning_rate"):
        fit(model, inputs * float("nan"), targets, epochs=2, batch_size=8, learning_rate=0.01, seed=0)
    assert model.training


def test_digits_cnn_learns_its_digits_with_the_settings_given() -> None:
    split = digits()
    model = digits_cnn(seed=0)
    losses = fit(model, split.train_inputs, split.train_targets, **DIGITS)
    assert losses[-1] < 0.05 < losses[0]
    assert evaluate(model, split.test_inputs, split.test_targets)[1] >= 0.975
