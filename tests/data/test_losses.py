"""Losses by name, by module and by callable: one number for each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import accuracy, as_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 1])
VALUES = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], dtype=torch.float64)


def per_sample(loss: Any, outputs: Any, targets: Any, raw: Any = None) -> Tensor:
    batch = as_batch((torch.zeros(2, 1), targets) if raw is None else raw)
    return as_loss(loss).per_sample(outputs, batch)


def entropy(logits: Tensor, target: int) -> Tensor:
    return logits.exp().sum().log() - logits[target]


def test_cross_entropy_by_hand() -> None:
    expected = torch.stack([entropy(LOGITS[n], int(CLASSES[n])) for n in range(2)])
    for loss in ("cross_entropy", nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")):
        torch.testing.assert_close(per_sample(loss, LOGITS, CLASSES), expected, rtol=1e-14, atol=0)


def test_mse_is_a_mean_over_outputs_and_squared_error_half_a_sum() -> None:
    squares = (LOGITS - VALUES) ** 2
    torch.testing.assert_close(per_sample("mse", LOGITS, VALUES), squares.mean(1), rtol=1e-14, atol=0)
    torch.testing.assert_close(per_sample(nn.MSELoss(), LOGITS, VALUES), squares.mean(1), rtol=1e-14, atol=0)
    torch.testing.assert_close(per_sample("squared_error", LOGITS, VALUES), squares.sum(1) / 2, rtol=1e-14, atol=0)


def test_binary_cross_entropy_sums_over_outputs() -> None:
    p = 1 / (1 + (-LOGITS).exp())
    hit = (VALUES > 0.5).double()
    expected = -(hit * p.log() + (1 - hit) * (1 - p).log())
    torch.testing.assert_close(per_sample("binary_cross_entropy", LOGITS, hit), expected.sum(1), rtol=1e-13, atol=0)
    torch.testing.assert_close(per_sample(nn.BCEWithLogitsLoss(), LOGITS, hit), expected.mean(1), rtol=1e-13, atol=0)


def test_a_rows_loss_is_the_mean_over_its_targets_that_are_not_ignored() -> None:
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    targets = torch.tensor([[0, 1, -100, 2], [-100, -100, -100, 1]])
    expected = torch.stack(
        [
            torch.stack([entropy(logits[0, :, t], int(targets[0, t])) for t in (0, 1, 3)]).mean(),
            entropy(logits[1, :, 3], 1),
        ]
    )
    torch.testing.assert_close(per_sample("cross_entropy", logits, targets), expected, rtol=1e-13, atol=0)
    swapped = targets.masked_fill(targets == -100, 7)
    found = per_sample(nn.CrossEntropyLoss(ignore_index=7), logits, swapped)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_a_row_without_a_counted_target_has_no_loss() -> None:
    logits = torch.randn(2, 3, 2, dtype=torch.float64)
    targets = torch.tensor([[0, 1], [-100, -100]])
    assert per_sample("cross_entropy", logits, targets)[1] == 0


def test_batches_with_names_carry_their_classes_last() -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64)
    labels = torch.randint(3, (2, 4))
    expected = torch.stack(
        [torch.stack([entropy(logits[n, t], int(labels[n, t])) for t in range(4)]).mean() for n in range(2)]
    )
    raw = {"input_ids": torch.zeros(2, 4), "labels": labels}
    torch.testing.assert_close(per_sample("cross_entropy", {"logits": logits}, None, raw), expected)
    square = torch.randn(2, 3, 3, dtype=torch.float64)
    labels = torch.randint(3, (2, 3))
    found = per_sample("cross_entropy", {"logits": square}, None, {"input_ids": torch.zeros(2, 3), "labels": labels})
    expected = torch.stack(
        [torch.stack([entropy(square[n, t], int(labels[n, t])) for t in range(3)]).mean() for n in range(2)]
    )
    torch.testing.assert_close(found, expected)


def test_classes_may_be_integers_of_any_width() -> None:
    expected = per_sample("cross_entropy", LOGITS, CLASSES)
    for kind in (torch.int32, torch.uint8):
        assert torch.equal(per_sample("cross_entropy", LOGITS, CLASSES.to(kind)), expected)


def test_the_options_of_a_torch_loss_are_kept_and_the_loss_is_not_touched() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1)
    found = per_sample(loss, LOGITS, CLASSES)
    torch.testing.assert_close(
        found, nn.CrossEntropyLoss(weight, label_smoothing=0.1, reduction="none")(LOGITS, CLASSES)
    )
    assert loss.reduction == "mean"
    huber = per_sample(nn.HuberLoss(delta=0.3), LOGITS, VALUES)
    torch.testing.assert_close(huber, nn.HuberLoss(delta=0.3, reduction="none")(LOGITS, VALUES).mean(1))


def test_a_callable_gets_the_outputs_and_the_batch_as_they_came() -> None:
    seen = []

    def mine(outputs: Any, batch: Any) -> Tensor:
        seen.append((outputs, batch))
        return outputs["out"].sum(1)

    raw = (torch.zeros(2, 1), {"a": CLASSES})
    outputs = {"out": LOGITS}
    assert torch.equal(as_loss(mine).per_sample(outputs, as_batch(raw)), LOGITS.sum(1))
    assert seen[0][0] is outputs
    assert seen[0][1] is raw
    assert as_loss(mine).name == "mine"


def single(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.mean()


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "words"),
    [
        ("crossentropy", LOGITS, CLASSES, "no loss 'crossentropy'.*cross_entropy"),
        (3, LOGITS, CLASSES, "name.*callable.*int"),
        (None, LOGITS, CLASSES, "name.*callable"),
        (single, LOGITS, CLASSES, 'single.*per sample.*reduction="none"'),
        (lambda outputs, batch: 3.0, LOGITS, CLASSES, "float.*tensor"),
        (lambda outputs, batch: outputs[:1].sum(1), LOGITS, CLASSES, "2 samples.*per sample"),
        ("cross_entropy", LOGITS, None, "needs targets"),
        ("mse", LOGITS, torch.zeros(2, 5), "outputs.*targets"),
        ("cross_entropy", object(), CLASSES, "reads a tensor.*callable"),
        ("model", {"logits": LOGITS}, CLASSES, "labels"),
    ],
)  # fmt: skip
def test_what_is_no_loss_per_sample_gets_a_sentence(loss: Any, outputs: Any, targets: Any, words: str) -> None:
    with pytest.raises(dh.LossError, match=words) as caught:
        per_sample(loss, outputs, targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("targets", [torch.tensor([0, 5]), torch.tensor([0, -3]), CLASSES.bool()])
def test_targets_that_are_no_classes_get_a_sentence(targets: Tensor) -> None:
    with pytest.raises(dh.DeadheadError, match=r"class|target|int64|long"):
        per_sample("cross_entropy", LOGITS, targets)


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "squared_error", "binary_cross_entropy"])
def test_sampled_gradients_have_the_gauss_newton_matrix_as_their_second_moment(name: str) -> None:
    targets = {"cross_entropy": CLASSES[:1].expand(40000)}.get(name, VALUES[:1].expand(40000, 3))
    logits = LOGITS[:1].expand(40000, 3).clone().requires_grad_()
    loss = as_loss(name)
    assert loss.sampled is not None
    values = loss.sampled(logits, as_batch((torch.zeros(40000, 1), targets)), torch.Generator().manual_seed(0))
    gradient = torch.autograd.grad(values.sum(), logits)[0]
    found = gradient.T @ gradient / len(gradient)
    row = as_batch((torch.zeros(1, 1), targets[:1]))
    exact = torch.autograd.functional.hessian(lambda out: loss.per_sample(out[None], row).sum(), LOGITS[0])
    torch.testing.assert_close(found, exact, rtol=0, atol=0.03 * float(exact.abs().max()))


def test_accuracy_counts_the_largest_logit() -> None:
    def of(outputs: Tensor, targets: Tensor) -> Any:
        return accuracy(outputs, as_batch((torch.zeros(2, 1), targets)))

    assert of(LOGITS, CLASSES).tolist() == [1, 0]
    logits = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [2.0, 3.0]]])
    assert of(logits, torch.tensor([[0, 1], [-100, 0]])).tolist() == [1, 0]
    assert of(LOGITS, VALUES) is None


def plain(outputs: Any, batch: Any) -> Tensor:
    return outputs.sum(1)


@pytest.mark.parametrize("make", [lambda: plain, lambda: nn.MSELoss(), lambda: "mse"])
def test_a_loss_that_was_resolved_stays_as_it_is(make: Callable[[], Any]) -> None:
    loss = as_loss(make())
    assert as_loss(loss) is loss
