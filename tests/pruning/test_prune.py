"""The whole path of a prune, from a trained network to a smaller one that computes what was promised."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from support.networks import Flat, Residual, TwoReaders, classes, conv_pair, mlp, unit_gain
from support.quick import each_of
from support.references import accuracy, entropy, without
from support.snapshot import Unharmed, bits, same
from support.trained import trained_digits

FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "units": 0.5, "curve": 0}
DATA = classes(24, 2, 5, 5)


def residual() -> nn.Module:
    return unit_gain(Residual())


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
        pruned = dh.prune(model, train, loss="cross_entropy", units=0.5, test=test, curve=0)
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
        return accuracy(dh.prune(model, few, loss="cross_entropy", units=0.5, curve=0, **options).model, test)

    least_squares, zero, random = (
        of(compensate="least_squares"),
        of(compensate="zero"),
        of(criterion="random", compensate="zero"),
    )
    assert least_squares > zero + 0.05
    assert least_squares > random + 0.2


# -- what decides, and what does not ---------------------------------------------------------------------------------


def test_the_test_set_is_never_used_for_a_decision() -> None:
    model = residual()
    results = [
        dh.prune(model, DATA, loss="cross_entropy", params=0.4, test=test, curve=0)
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


# -- left as it was --------------------------------------------------------------------------------------------------


CRITERIA = ["mrs", "mrp", "oracle", "taylor1", "magnitude", "random", "activation_std"]
WAYS = list(itertools.product(CRITERIA, ["zero", "mean", "least_squares"]))
QUICK = [*((criterion, "zero") for criterion in CRITERIA), ("taylor1", "mean"), ("mrs", "least_squares")]


@pytest.mark.parametrize("way", each_of(WAYS, QUICK), ids="-".join)
def test_a_prune_leaves_the_model_and_the_data_to_the_bit(way: tuple[str, str], unharmed: Unharmed) -> None:
    criterion, compensate = way
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
