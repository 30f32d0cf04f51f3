"""Magnitude judges the network as it is pruned and compensated so far, and `PrunedState.remaining` is what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from deadhead.errors import DataError
from deadhead.gates.state import PrunedState
from deadhead.reconstruction.compensation import Compensation
from deadhead.reconstruction.solve import FIT_DAMPINGS
from deadhead.select.plan import plan_of
from support.networks import Flat, classes, conv_pair, mlp, unit_gain
from support.references import Data, least_squares

DATA = classes(80, 4)
CONSUMERS = {"0": "2", "2": "4"}


def refit_moves_norms() -> nn.Sequential:
    """Hidden unit 1 of the first layer is about twice unit 0, which has the smallest weights and is removed first. Row
    0 of the second layer reads unit 0 with weight 4: refitted, it reads unit 1 with weight 2, and is the smallest row.
    """
    model = mlp(4, 6, 6, 3, seed=3)
    with torch.no_grad():
        model[0].weight[0] = 0.05 * nn.functional.normalize(model[0].weight[0], dim=0)
        model[0].weight[1] = 2 * model[0].weight[0]
        model[0].weight[2:] = nn.functional.normalize(model[0].weight[2:]) * torch.tensor([[0.7], [0.8], [0.9], [1.0]])
        model[0].bias[:2] = 0
        model[2].weight[:] = 3 * nn.functional.normalize(model[2].weight, dim=1)
        model[2].weight[0] = torch.tensor([4.0, 0.1, 0.1, -0.1, 0.1, -0.1])
        model[2].weight[1:] *= torch.tensor([[1.0], [1.05], [1.1], [1.15], [1.2]])
    return model


def plain_loop(model: nn.Sequential, numbers: Sequence[Mapping[str, int]]) -> dict[str, list[int]]:
    """The units that are chosen: in each round so many of each layer as `numbers` says, those whose rows have the
    smallest norms where each layer's columns were regressed anew for the rounds before."""
    calibration = calibrate(read(DATA))
    fit, held_out = (
        [(batch.inputs, batch.targets) for batch in part] for part in (calibration.fit, calibration.held_out)
    )
    chosen: dict[str, list[int]] = {"0": [], "2": []}
    for number in numbers:
        now = refitted(model, chosen, fit, held_out)
        for name in chosen:
            rows = now.get_submodule(name).weight.tolist()
            norms = [sum(weight**2 for weight in row) ** 0.5 for row in rows]
            remaining = [unit for unit in range(len(rows)) if unit not in chosen[name]]
            chosen[name] += sorted(remaining, key=norms.__getitem__)[: number.get(name, 0)]
    return chosen


def refitted(model: nn.Module, removed: Mapping[str, Sequence[int]], fit: Data, held_out: Data) -> nn.Module:
    """A copy of the model with the consumers of removed units refitted, their columns zero."""
    columns = {CONSUMERS[name]: units for name, units in removed.items() if units}
    return least_squares(model, columns, fit, held_out, FIT_DAMPINGS)


def test_magnitude_re_ranks_by_the_refitted_weights() -> None:
    options = {"loss": "cross_entropy", "criterion": "magnitude", "compensate": "least_squares", "units": 0.5}
    single = dh.prune(refit_moves_norms(), DATA, **options, curve=0)
    several = dh.prune(refit_moves_norms(), DATA, **options, rounds=3, curve=0)
    order = several.plan.order
    rounds = [order[start : start + 2] for start in (0, 2, 4)]
    assert len(order) == 6
    numbers = [{name: sum(group == name for group, _ in part) for name in CONSUMERS} for part in rounds]
    assert numbers[0]["0"] > 0, "without a removal there is nothing to refit"
    expected = plain_loop(refit_moves_norms(), numbers)
    assert {name: [unit for group, unit in order if group == name] for name in CONSUMERS} == expected
    assert several.plan.removed["2"].tolist() != single.plan.removed["2"].tolist()
    assert 0 in expected["2"]
    assert 0 not in single.plan.removed["2"].tolist()


GROUPED: dict[str, list[tuple[str, int, Callable[[int], list[int]]]]] = {
    "0": [
        ("0.weight", 0, lambda k: [k, 3 + k]),
        ("0.bias", 0, lambda k: [k, 3 + k]),
        ("2.weight", 1, lambda k: [k]),
    ]
}
FLAT: dict[str, list[tuple[str, int, Callable[[int], list[int]]]]] = {
    "conv1": [
        *((f"conv1.{name}", 0, lambda k: [k]) for name in ("weight", "bias")),
        *((f"norm.{name}", 0, lambda k: [k]) for name in ("weight", "bias", "running_mean", "running_var")),
        ("conv2.weight", 1, lambda k: [k]),
    ],
    "conv2": [
        *((f"conv2.{name}", 0, lambda k: [k]) for name in ("weight", "bias")),
        ("fc1.weight", 1, lambda k: [4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3]),
    ],
}
STATES = {
    "grouped convolution": (
        lambda: nn.Sequential(*conv_pair(groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (2, 5, 5),
        GROUPED,
        [("0", 1)],
        "2.weight",
    ),
    "flattened convolution": (
        lambda: unit_gain(Flat()),
        (2, 6, 6),
        FLAT,
        [("conv1", 2), ("conv2", 0), ("conv1", 5), ("conv2", 3)],
        "fc1.weight",
    ),
}


@pytest.mark.parametrize("case", STATES.values(), ids=STATES)
def test_remaining_is_the_state_with_removed_slices_zero(case: tuple) -> None:
    make, shape, slices, order, refit = case
    model: nn.Module = make()
    network = dh.trace(model, classes(3, *shape)[0][0])
    compensation = Compensation(tensors={refit: 2 * model.get_parameter(refit).detach()})
    expected: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
    expected[refit] *= 2
    for name, unit in order:
        for parameter, axis, entries in slices[name]:
            for entry in entries(unit):
                expected[parameter].select(axis, entry).zero_()
    held = {name: value.clone() for name, value in network.frozen_state().items()}
    found = PrunedState.of(network, plan_of(order), compensation).remaining()
    assert set(expected) <= set(found)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    for name, value in network.frozen_state().items():
        assert torch.equal(value, held[name]), f"{name} of the intact network has changed"


def test_magnitude_with_norm_1_sums_absolute_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2))
    data = [(torch.randn(4, 2, 6, 6), torch.tensor([0, 1, 0, 1]))]
    found = dh.score(model, data, loss="cross_entropy", criterion="magnitude", norm=1)["0"]
    plain = [sum(abs(w) for w in unit.flatten().tolist()) for unit in model[0].weight]
    torch.testing.assert_close(found, torch.tensor(plain, dtype=torch.float64), rtol=1e-6, atol=0)
    with pytest.raises(DataError, match="norm=0 is out of range"):
        dh.score(model, data, loss="cross_entropy", criterion="magnitude", norm=0)
