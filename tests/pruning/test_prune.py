"""The whole path of a prune, from a trained network to a smaller one that computes what was promised."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from support.networks import Flat, Residual, TwoReaders, classes, conv_pair, mlp, unit_gain, values
from support.references import without
from support.snapshot import Unharmed, bits
from support.trained import trained_digits

FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "units": 0.5}
DATA = classes(24, 2, 5, 5)


def residual() -> nn.Module:
    return unit_gain(Residual())


def accuracy(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(inputs).argmax(1) == targets).sum()) for inputs, targets in data)
    return right / sum(len(targets) for _, targets in data)


def entropy(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    with torch.no_grad():
        total = sum(float(F.cross_entropy(model(inputs), targets, reduction="sum")) for inputs, targets in data)
    return total / sum(len(targets) for _, targets in data)


# -- pruned equals gated ---------------------------------------------------------------------------------------------

HAND = {
    "mlp": (lambda: mlp(3, 6, 5, 3), (3,), lambda gone: {"2": gone("0"), "4": gone("2")}),
    "flattened channels": (
        lambda: unit_gain(Flat()),
        (2, 6, 6),
        lambda gone: {
            "conv2": gone("conv1"), "fc2": gone("fc1"),
            "fc1": [4 * k + position for k in gone("conv2") for position in range(4)],
        },
    ),
    "residual": (
        residual,
        (2, 5, 5),
        lambda gone: {
            "a1": gone("stem"), "b1": gone("stem"), "fc": gone("stem"), "a2": gone("a1"), "b2": gone("b1")
        },
    ),
    "several consumers": (
        lambda: unit_gain(TwoReaders()), (3,), lambda gone: {"left": gone("hidden"), "right": gone("hidden")}
    ),
    "grouped conv": (
        lambda: nn.Sequential(*conv_pair(groups=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (2, 5, 5),
        lambda gone: {"2": [3 * group + k for group in range(2) for k in gone("0")]},
    ),
    "depthwise conv": (
        lambda: unit_gain(
            nn.Sequential(nn.Conv2d(2, 6, 1), nn.Tanh(), nn.Conv2d(6, 6, 3, groups=6), nn.Tanh(),
                          nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        ),
        (2, 5, 5),
        lambda gone: {"4": gone("0")},
    ),
    "transposed conv": (
        lambda: unit_gain(
            nn.Sequential(nn.Conv2d(2, 6, 1), nn.Tanh(), nn.ConvTranspose2d(6, 4, 2, stride=2), nn.Tanh(),
                          nn.Conv2d(4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        ),
        (2, 5, 5),
        lambda gone: {"2": gone("0"), "4": gone("2")},
    ),
    "group norm": (
        lambda: unit_gain(
            nn.Sequential(nn.Conv2d(2, 8, 1), nn.GroupNorm(4, 8), nn.Tanh(), nn.Conv2d(8, 3, 1),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten())
        ),
        (2, 5, 5),
        lambda gone: {"3": [2 * k + i for k in gone("0") for i in range(2)]},
    ),
}  # fmt: skip
"""A network, the shape of a row, and by hand which input columns of which consumers close when units go."""


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize("inplace", [False, True])
def test_pruned_equals_gated(name: str, inplace: bool) -> None:
    make, shape, columns = HAND[name]
    model, intact = make(), make()
    inputs, targets = classes(24, *shape, count=2)[0]
    pruned = dh.prune(model, [(inputs, targets)], **FAST, compensate="zero", inplace=inplace)
    closed = columns(lambda group: pruned.plan.removed[group].tolist())
    new = classes(9, *shape, seed=1)[0][0]
    expected = without(intact, closed, new)
    moved = (expected - intact(new)).abs().max() / intact(new).abs().max()
    assert moved > 0.01, "gates that move nothing prove nothing"
    found = pruned.model.eval()(new)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert sum(p.numel() for p in pruned.model.parameters()) < sum(p.numel() for p in intact.parameters())


# -- digits ----------------------------------------------------------------------------------------------------------


def test_half_of_a_digits_network_is_within_three_points_without_retraining(unharmed: Unharmed) -> None:
    model, train, test = trained_digits()
    before = accuracy(model, test)
    assert before > 0.95
    with unharmed(model):
        pruned = dh.prune(model, train, loss="cross_entropy", units=0.5, test=test)
    report = pruned.report
    assert accuracy(pruned.model, test) >= before - 0.03
    assert report.before.accuracy == pytest.approx(before)
    assert report.after.accuracy == pytest.approx(accuracy(pruned.model, test))
    assert report.before.loss == pytest.approx(entropy(model, test), rel=1e-5)
    assert report.after.loss == pytest.approx(entropy(pruned.model, test), rel=1e-5)
    assert report.difference <= 1e-5
    assert [group.kept for group in report.groups] == [8, 16, 16, 32]
    assert report.predicted_loss is not None
    assert report.before.loss < report.predicted_loss


def test_chosen_units_beat_random_ones_and_compensation_beats_none_on_digits() -> None:
    model, train, test = trained_digits()
    few = [(inputs, targets) for inputs, targets in train[:3]]

    def of(**options: Any) -> float:
        return accuracy(dh.prune(model, few, loss="cross_entropy", units=0.5, **options).model, test)

    least_squares, zero, random = of(), of(compensate="zero"), of(criterion="random", compensate="zero")
    assert least_squares > zero + 0.05
    assert least_squares > random + 0.2


# -- the report ------------------------------------------------------------------------------------------------------


def test_the_report_has_what_was_measured() -> None:
    model = residual()
    test = classes(11, 2, 5, 5, seed=3)
    pruned = dh.prune(model, DATA, loss="cross_entropy", units=0.5, exclude="b1", test=test, seed=4)
    report = pruned.report
    assert (report.model, report.budget, report.criterion) == ("Residual", "units=0.5", "obs")
    assert (report.compensation, report.loss_name) == ("gauss_newton", "cross_entropy")
    assert (report.evaluated_on, report.rows, report.calibration_rows) == ("test", 11, 24)
    assert report.before.parameters == sum(p.numel() for p in model.parameters())
    assert report.after.parameters == sum(p.numel() for p in pruned.model.parameters())
    assert (report.before.units, report.after.units) == (15, 10)
    assert report.before.loss == pytest.approx(entropy(model, test), rel=1e-10)
    assert report.after.loss == pytest.approx(entropy(pruned.model, test), rel=1e-10)
    assert report.after.accuracy == pytest.approx(accuracy(pruned.model, test), rel=1e-6)
    assert 0 < report.after.latency < 1
    assert report.after.latency_rows == 11
    assert [group.name for group in report.groups] == ["stem", "a1"]
    assert report.groups[0].consumers == ["a1", "b1", "fc"]
    assert report.groups[0].kind == "channel"
    assert dict(report.left_alone)["fc"] == "it is an output of the model"
    assert "b1" in dict(report.left_alone)
    assert "removes 5 of 10 in 2 groups" in report.headline
    assert report.settings["seed"] == 4
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert json.loads(json.dumps(report.to_dict()))["headline"] == report.headline


def test_multiply_adds_are_those_of_one_row_worked_out_by_hand() -> None:
    model = unit_gain(Flat())
    pruned = dh.prune(model, classes(24, 2, 6, 6, count=4), **FAST)

    def by_hand(c1: int, c2: int, f1: int) -> int:
        return 36 * 9 * 2 * c1 + 16 * 9 * c1 * c2 + 4 * c2 * f1 + f1 * 4

    assert pruned.report.before.macs == by_hand(6, 5, 7)
    assert pruned.report.after.macs == by_hand(3, 2, 4)


def test_the_size_on_disk_is_that_of_the_file(tmp_path: Path) -> None:
    pruned = dh.prune(residual(), DATA, **FAST)
    pruned.save(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_size == pruned.report.after.bytes
    assert pruned.report.before.bytes > pruned.report.after.bytes


def test_without_a_test_set_the_held_out_rows_are_measured() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, **FAST, seed=2)
    held = [(batch.inputs, batch.targets) for batch in calibrate(read(DATA), seed=2).held_out]
    assert pruned.report.evaluated_on == "held-out"
    assert pruned.report.rows == 5 == sum(len(y) for _, y in held)
    assert pruned.report.before.loss == pytest.approx(entropy(model, held), rel=1e-10)
    assert pruned.report.after.loss == pytest.approx(entropy(pruned.model, held), rel=1e-10)


def test_the_saliencies_are_those_of_the_rows_that_decide() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, loss="cross_entropy", units=0.5, criterion="mrs")
    fit = [(batch.inputs, batch.targets) for batch in calibrate(read(DATA)).fit]
    expected = dh.score(model, fit, loss="cross_entropy")
    for group in pruned.report.groups:
        assert group.saliency == pytest.approx(expected[group.name].tolist(), rel=1e-10)


def test_the_predicted_loss_is_near_the_measured_one_for_small_changes() -> None:
    model = mlp(3, 12, 2)
    inputs = torch.randn(4000, 3, dtype=torch.float64)
    data = [(inputs, model(inputs).detach() + 0.3 * torch.randn(4000, 2, dtype=torch.float64))]
    for loss in ("mse", "squared_error"):
        pruned = dh.prune(model, data, loss=loss, units=8, compensate="mean", samples=4000)
        report = pruned.report
        assert report.predicted_loss is not None
        rise = report.after.loss - report.before.loss
        assert rise > 0.02
        assert report.predicted_loss - report.before.loss == pytest.approx(rise, rel=0.3)


def test_there_is_no_predicted_loss_where_the_loss_has_no_known_distribution() -> None:
    pruned = dh.prune(residual(), DATA, **{**FAST, "loss": lambda outputs, batch: outputs.square().sum(1)})
    assert pruned.report.predicted_loss is None
    assert pruned.report.loss_name == "<lambda>"


# -- what decides, and what does not ---------------------------------------------------------------------------------


def test_the_test_set_is_never_used_for_a_decision() -> None:
    model = residual()
    results = [
        dh.prune(model, DATA, loss="cross_entropy", params=0.4, test=test)
        for test in (None, classes(8, 2, 5, 5, seed=5), classes(8, 2, 5, 5, seed=6))
    ]
    for other in results[1:]:
        assert other.plan.order == results[0].plan.order
        assert other.report.difference == results[0].report.difference
        assert other.report.predicted_loss is not None
        for name, tensor in results[0].model.state_dict().items():
            assert bits(other.model.state_dict()[name]) == bits(tensor)


def test_the_same_seed_gives_the_same_network_and_the_global_generator_does_not_matter() -> None:
    model = residual()
    first = dh.prune(model, DATA, **{**FAST, "criterion": "random"}, seed=1)
    torch.rand(11)
    again = dh.prune(model, DATA, **{**FAST, "criterion": "random"}, seed=1)
    other = dh.prune(model, DATA, **{**FAST, "criterion": "random"}, seed=2)
    assert first.plan.order == again.plan.order != other.plan.order
    for name, tensor in first.model.state_dict().items():
        assert bits(again.model.state_dict()[name]) == bits(tensor)


# -- data in all its forms -------------------------------------------------------------------------------------------


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return list(a) == list(b) and all(bits(a[name]) == bits(b[name]) for name in a)


def test_one_shot_iterators_lists_and_loaders_give_the_same() -> None:
    model = residual()
    inputs, targets = DATA[0]
    expected = dh.prune(model, DATA, loss="cross_entropy", units=0.5, test=DATA)

    def generator() -> Iterator[Any]:
        yield from DATA

    for data in (generator(), iter(DATA), DataLoader(TensorDataset(inputs, targets), batch_size=24), [list(DATA[0])]):
        found = dh.prune(model, data, loss="cross_entropy", units=0.5, test=generator())
        assert found.plan.order == expected.plan.order
        assert same(found.model, expected.model)


class Named(nn.Module):
    """Keyword inputs, an output that is a mapping, and a loss of its own where it gets labels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, shift: Tensor | None = None, labels: Tensor | None = None) -> dict[str, Any]:
        logits = self.last(torch.tanh(self.first(x if shift is None else x + shift)))
        return {"loss": None if labels is None else F.cross_entropy(logits, labels), "logits": logits}


def named(rows: int = 24) -> list[dict[str, Tensor]]:
    (inputs, targets), *_ = classes(rows, 3)
    return [{"x": inputs, "shift": inputs.flip(1) / 10, "labels": targets}]


def test_batches_may_be_mappings_and_outputs_too() -> None:
    model = unit_gain(Named())
    pruned = dh.prune(model, named(), loss="cross_entropy", units=0.5)
    assert pruned.model.first.out_features == 4
    assert pruned.report.before.accuracy is not None
    batch = OrderedDict(named()[0])
    assert dh.prune(model, [batch], loss="cross_entropy", units=0.5).plan.order == pruned.plan.order


def test_a_model_may_return_its_own_loss() -> None:
    model, test = unit_gain(Named()), named(10)
    pruned = dh.prune(model, named(), loss="model", criterion="magnitude", units=0.5, test=test)
    with torch.no_grad():
        before, after = (float(each(**test[0])["loss"]) for each in (model, pruned.model))
    assert pruned.report.before.loss == pytest.approx(before, rel=1e-10)
    assert pruned.report.after.loss == pytest.approx(after, rel=1e-10)
    with pytest.raises(dh.LossError, match=r'loss for each sample.*loss="model".*magnitude'):
        dh.prune(model, named(), loss="model", criterion="mrs", units=0.5)


def test_several_inputs_go_into_a_tuple_of_their_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(3, 6), nn.Linear(2, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.last(torch.tanh(self.a(x) + self.b(y)))

    data = [((torch.randn(20, 3).double(), torch.randn(20, 2).double()), torch.randint(3, (20,)))]
    assert dh.prune(unit_gain(Two()), data, loss="cross_entropy", units=0.5).model.a.out_features == 3


@dataclass
class Output:
    value: Tensor
    extra: str = "note"


def test_a_loss_of_ones_own_gets_the_models_own_container_and_the_raw_batch() -> None:
    class Contained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Output:
            return Output(self.last(torch.tanh(self.first(x))))

    seen = set()

    def loss(outputs: Any, batch: Any) -> Tensor:
        seen.add((type(outputs), type(batch)))
        inputs, (a, b) = batch
        return (outputs.value - a).abs().sum(1) + b * inputs[:, 0] ** 2

    data = [(torch.randn(24, 3).double(), (torch.randn(24, 2).double(), torch.rand(24).double()))]
    pruned = dh.prune(unit_gain(Contained()), data, loss=loss, units=0.5)
    assert pruned.model.first.out_features == 4
    assert {kind for kind, _ in seen} == {Output}
    assert {kind for _, kind in seen} == {tuple}
    assert pruned.report.loss_name == "loss"


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (nn.MSELoss(), "mse"),
        (nn.MSELoss(reduction="none"), "mse"),
        (nn.SmoothL1Loss(), None),
        (nn.L1Loss(reduction="mean"), None),
        (nn.HuberLoss(delta=0.5), None),
    ],
)
def test_losses_of_torch_are_made_per_sample(loss: nn.Module, name: str | None) -> None:
    model, data = mlp(3, 8, 2), values(24, 3)
    pruned = dh.prune(model, data, loss=loss, units=0.5)
    held = calibrate(read(data)).held_out[0]
    with torch.no_grad():
        each = getattr(F, {"MSELoss": "mse_loss", "SmoothL1Loss": "smooth_l1_loss", "L1Loss": "l1_loss"}.get(
            type(loss).__name__, "huber_loss"))  # fmt: skip
        options = {"delta": 0.5} if isinstance(loss, nn.HuberLoss) else {}
        expected = float(each(model(held.inputs), held.targets, **options))
    assert pruned.report.before.loss == pytest.approx(expected, rel=1e-10)
    if name is not None:
        assert dh.prune(model, data, loss=name, units=0.5).plan.order == pruned.plan.order


def test_a_sequence_first_model_names_its_batch_axis() -> None:
    class Time(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)).mean(0))

    model = unit_gain(Time())
    inputs, targets = classes(20, 4, 3)[0]
    network = dh.trace(model, inputs.transpose(0, 1), batch_axis=1)
    pruned = dh.prune(network, [(inputs.transpose(0, 1), targets)], loss="cross_entropy", criterion="oracle", units=4)
    assert pruned.model.first.out_features == 4
    assert pruned.report.calibration_rows == 20


def test_batches_of_several_lengths_are_traced_one_by_one() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)).mean(1))

    data = [classes(8, length, 3, seed=length)[0] for length in (2, 5, 3)]
    pruned = dh.prune(unit_gain(Mean()), data, loss="cross_entropy", units=0.5)
    assert pruned.model.first.out_features == 4


class Writes(nn.Module):
    """Its forward writes to the tensor that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(0.5).clamp_(-1, 1)
        return self.last(torch.tanh(self.first(x)))


def test_a_forward_that_writes_to_its_input_is_measured_on_data_that_it_did_not_write_to() -> None:
    model = unit_gain(Writes())
    data = [(torch.randn(24, 3).double(), torch.randint(3, (24,)))]
    test = [(torch.randn(10, 3).double(), torch.randint(3, (10,)))]
    kept = [(inputs.clone(), targets) for inputs, targets in test]
    pruned = dh.prune(model, data, loss="cross_entropy", units=0.5, test=test)
    assert bits(test[0][0]) == bits(kept[0][0])
    before = entropy(model, [(inputs.clone(), targets) for inputs, targets in kept])
    after = entropy(pruned.model, [(inputs.clone(), targets) for inputs, targets in kept])
    assert pruned.report.before.loss == pytest.approx(before, rel=1e-10)
    assert pruned.report.after.loss == pytest.approx(after, rel=1e-10)


# -- left as it was --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["mrs", "mrp", "oracle", "taylor1", "magnitude", "random", "activation_std"])
@pytest.mark.parametrize("compensate", ["zero", "mean", "least_squares"])
def test_a_prune_leaves_the_model_and_the_data_to_the_bit(criterion: str, compensate: str, unharmed: Unharmed) -> None:
    model = residual().train()
    model.norm.eval()
    model.b2.weight.requires_grad_(False)
    model.a1.register_forward_hook(lambda module, args, output: None)
    F.cross_entropy(model(DATA[0][0]), DATA[0][1]).backward()
    with unharmed(model, DATA[0][0], DATA[0][1]):
        pruned = dh.prune(model, DATA, loss="cross_entropy", criterion=criterion, compensate=compensate, units=0.5)
    assert pruned.model is not model


def test_a_prune_in_place_gives_the_same_network_as_a_copy() -> None:
    model, other = residual(), residual()
    copied = dh.prune(model, DATA, loss="cross_entropy", units=0.5)
    cut = dh.prune(other, DATA, loss="cross_entropy", units=0.5, inplace=True)
    assert cut.model is other
    assert same(copied.model, other)
    assert cut.plan.order == copied.plan.order
    assert bits(other(DATA[0][0])) == bits(copied.model(DATA[0][0]))


def test_a_network_can_be_pruned_again_and_again_and_traced_anew_in_between() -> None:
    model = residual()
    network = dh.trace(model, DATA[0][0])
    first, second = (dh.prune(network, DATA, **FAST) for _ in range(2))
    assert same(first.model, second.model)
    third = dh.prune(first.model, DATA, **FAST)
    assert [group.kept for group in third.report.groups] == [2, 1, 1]


def test_a_network_whose_module_was_cut_in_place_says_so() -> None:
    model = residual()
    network = dh.trace(model, DATA[0][0])
    dh.prune(network, DATA, **FAST, inplace=True)
    with pytest.raises(dh.DeadheadError, match=r"trace"):
        dh.prune(network, DATA, **FAST)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_an_optimizer_is_cut_along_and_training_goes_on(kind: str, inplace: bool, unharmed: Unharmed) -> None:
    model = residual().train()
    make: Mapping[str, Any] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    }
    optimizer = make[kind](model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(DATA[0][0]), DATA[0][1]).backward()
        optimizer.step()
    before = {name: {k: v.clone() if isinstance(v, Tensor) else v for k, v in optimizer.state[p].items()}
              for name, p in model.named_parameters()}  # fmt: skip
    pruned = dh.prune(model, DATA, **FAST, compensate="zero", inplace=inplace, optimizer=optimizer)
    trainer = pruned.optimizer
    assert trainer is not None
    assert (trainer is optimizer) == inplace
    a1 = [k for k in range(4) if k not in pruned.plan.removed["a1"].tolist()]
    stem = [k for k in range(6) if k not in pruned.plan.removed["stem"].tolist()]
    state = trainer.state[pruned.model.a1.weight]
    for key, value in before["a1.weight"].items():
        if isinstance(value, Tensor) and value.dim():
            assert torch.equal(state[key], value[a1][:, stem]), key
        else:
            assert state[key] == value
    held = {id(p) for group in trainer.param_groups for p in group["params"]}
    assert held == {id(p) for p in pruned.model.parameters()}
    seen = []
    for _ in range(15):
        loss = F.cross_entropy(pruned.model(DATA[0][0]), DATA[0][1])
        trainer.zero_grad()
        loss.backward()
        trainer.step()
        seen.append(loss.item())
    assert seen[-1] < seen[0]


def test_a_model_with_half_of_its_precision_is_pruned_in_its_own_type() -> None:
    model = residual().bfloat16()
    data = [(DATA[0][0].bfloat16(), DATA[0][1])]
    pruned = dh.prune(model, data, loss="cross_entropy", units=0.5)
    assert {parameter.dtype for parameter in pruned.model.parameters()} == {torch.bfloat16}
    assert pruned.report.difference <= pruned.report.tolerance


# -- saving and loading ----------------------------------------------------------------------------------------------


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


def test_loading_leaves_the_instance_given_as_it_is(tmp_path: Path, unharmed: Unharmed) -> None:
    dh.prune(residual(), DATA, **FAST).save(tmp_path)
    other = Residual().double()
    other.fc.bias.requires_grad_(False)
    with unharmed(other, tmp_path):
        found = dh.load(tmp_path, other)
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


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    dh.prune(residual(), DATA, **FAST).save(tmp_path)
    again = dh.prune(residual(), DATA, **{**FAST, "units": 0.3})
    again.save(tmp_path)
    assert same(dh.load(tmp_path, Residual().double()), again.model)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


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
def test_a_damaged_folder_is_refused_and_the_instance_left_as_it_is(
    how: str, tmp_path: Path, unharmed: Unharmed
) -> None:
    folder = tmp_path / "saved"
    dh.prune(residual(), DATA, **FAST).save(folder)
    BROKEN[how](folder)
    other = Residual().double()
    with unharmed(other, tmp_path), pytest.raises(dh.LoadError) as caught:
        dh.load(folder, other)
    message = str(caught.value)
    assert "\n" not in message
    assert "saved" in message


@pytest.mark.parametrize("other", [lambda: Flat().double(), lambda: mlp(3, 4, 2), lambda: nn.Identity()])
def test_another_model_is_refused_by_name(other: Any, tmp_path: Path, unharmed: Unharmed) -> None:
    dh.prune(residual(), DATA, **FAST).save(tmp_path)
    model = other()
    with unharmed(model), pytest.raises(dh.LoadError, match=f"Residual.*{type(model).__name__}"):
        dh.load(tmp_path, model)


def test_a_saved_folder_can_not_change_what_a_model_does(tmp_path: Path) -> None:
    """Only sizes may be set: anything else in the settings is refused."""
    dh.prune(residual(), DATA, **FAST).save(tmp_path)
    for path, attribute, value in (("", "forward", "x"), ("norm", "training", False), ("norm", "eps", 100.0)):
        damage_recipe(lambda recipe, s=(path, attribute, value): recipe["surgery"]["settings"].append(s))(tmp_path)
        with pytest.raises(dh.LoadError):
            dh.load(tmp_path, Residual().double())
        damage_recipe(lambda recipe: recipe["surgery"]["settings"].pop())(tmp_path)
    dh.load(tmp_path, Residual().double())


def test_a_save_that_fails_leaves_what_was_there(
    tmp_path: Path, unharmed: Unharmed, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    folder = tmp_path / "saved"
    dh.prune(residual(), DATA, **FAST).save(folder)
    other = dh.prune(residual(), DATA, **{**FAST, "units": 0.3})
    replace, calls = os.replace, []

    def full(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        other.save(folder)
    monkeypatch.undo()
    found = dh.load(folder, Residual().double())
    assert found.a1.out_channels in (1, 2)
    assert not [path for path in folder.iterdir() if path.suffix == ".part"]


def test_progress_tells_of_every_long_step_and_ends_at_its_total() -> None:
    events: list[tuple[str, int, int]] = []
    dh.prune(residual(), DATA, loss="cross_entropy", units=0.5, progress=lambda *event: events.append(event))
    last: dict[str, tuple[int, int]] = {}
    for step, done, total in events:
        assert 0 <= done <= total
        last[step] = (done, total)
    assert {"curvature", "choice and compensation", "verify"} <= set(last)
    assert all(done == total for done, total in last.values())
    assert all(math.isfinite(total) for _, total in last.values())
