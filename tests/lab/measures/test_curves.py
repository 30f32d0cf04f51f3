"""Removal curves: orders and errors against a plain loop that sets units to zero by hand."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from torch import Tensor

import deadhead as dh
from deadhead.data.calibration import calibrate
from deadhead.lab.measures.curves import WAYS, Curve, Subject, Unit, smallest
from deadhead.lab.networks.tasks import Task, accuracy, shape


@functools.cache
def task() -> Task:
    """A small diamond, which takes a few tenths of a second to learn."""
    return shape("diamond", hidden=(5, 4), points=200, held=50, seed=1, most_epochs=40)


@functools.cache
def subject() -> Subject:
    return Subject(task())


def by_hand(x: Tensor, removed: tuple[Unit, ...]) -> Tensor:
    """Outputs with removed units at zero, layer by layer."""
    layers = list(task().model)
    first, second = torch.ones(5), torch.ones(4)
    for name, unit in removed:
        (first if name == "0" else second)[unit] = 0
    with torch.no_grad():
        hidden = torch.sigmoid(layers[0](x)) * first
        hidden = torch.sigmoid(layers[2](hidden)) * second
        return torch.sigmoid(layers[4](hidden))


def error_by_hand(removed: tuple[Unit, ...]) -> float:
    return ((by_hand(task().inputs, removed) - task().targets) ** 2).double().sum().item() / 2 / len(task().inputs)


def removable(order: list[Unit]) -> list[Unit]:
    units = [*(("0", i) for i in range(5)), *(("2", i) for i in range(4))]
    kept = {"0": 5 - sum(n == "0" for n, _ in order), "2": 4 - sum(n == "2" for n, _ in order)}
    return [unit for unit in units if unit not in order and kept[unit[0]] > 1]


def test_brute_force_is_the_order_of_the_plain_loop_over_masked_networks() -> None:
    order: list[Unit] = []
    while left := removable(order):
        order.append(min(left, key=lambda unit: error_by_hand((*order, unit))))
    assert subject().order("oracle") == order
    assert len(order) == 7


def test_a_single_ranking_sorts_once_and_spares_the_last_unit_of_a_layer() -> None:
    found = subject().order("oracle", rerank=False)
    scores = {unit: error_by_hand((unit,)) for unit in removable([])}
    assert len(found) == 7
    spared = set(scores) - set(found)
    assert {name for name, _ in spared} == {"0", "2"}
    for earlier, later in itertools.pairwise(found):
        assert scores[earlier] <= scores[later] + 1e-12


def test_linear_and_quadratic_orders_follow_their_derivatives_in_the_network_as_it_is() -> None:
    for name in ("linear", "exact quadratic"):
        order = subject().order(**WAYS[name])
        for place in (0, 4):
            before, gates = order[:place], torch.ones(9, dtype=torch.float64, requires_grad=True)
            layers = list(task().model.double())
            closed = torch.tensor([float(unit not in before) for unit in removable([])], dtype=torch.float64)

            def loss(open_: Tensor, layers: list[torch.nn.Module] = layers, closed: Tensor = closed) -> Tensor:
                first = torch.sigmoid(layers[0](task().inputs.double())) * (open_ * closed)[:5]
                second = torch.sigmoid(layers[2](first)) * (open_ * closed)[5:]
                return (torch.sigmoid(layers[4](second)) - task().targets).square().sum() / 400

            slope = torch.autograd.functional.jacobian(loss, gates)
            curvature = torch.autograd.functional.hessian(loss, gates).diagonal()
            change = -slope if name == "linear" else -slope + 0.5 * curvature
            task().model.float()
            scores = dict(zip(removable([]), change.tolist(), strict=True))
            assert order[place] == min(removable(before), key=scores.__getitem__)


def test_a_curve_has_the_errors_and_accuracies_of_the_masked_networks() -> None:
    order = subject().order("taylor2")
    curve = subject().curve(order)
    for count in range(len(order) + 1):
        removed = tuple(order[:count])
        assert curve.error[count] == pytest.approx(error_by_hand(removed), rel=1e-5)
        held = by_hand(task().held_inputs, removed)
        assert curve.held_accuracy[count] == accuracy(held, task().held_targets)
    everything = tuple(removable([]))
    assert curve.bare == pytest.approx(error_by_hand(everything), rel=1e-5)
    assert [curve.order[i][0] == "2" for i in range(7)] == [layer == 1 for layer in curve.layers]


def test_replacement_by_means_chooses_and_measures_with_units_held_at_their_means() -> None:
    curve = subject().by_means()
    layers, x = list(task().model), task().inputs

    def error(removed: list[Unit], tried: Unit = ("", 0)) -> float:
        """With removed units at their means in the intact network, and one more at its mean as the network is now."""
        with torch.no_grad():
            one = torch.sigmoid(layers[0](fitted))
            means = {"0": one.mean(0), "2": torch.sigmoid(layers[2](one)).mean(0)}
            value = x
            for name, layer in (("0", layers[0]), ("2", layers[2])):
                value = torch.sigmoid(layer(value))
                for unit in (unit for own, unit in removed if own == name):
                    value[:, unit] = means[name][unit]
                if tried[0] == name:
                    value[:, tried[1]] = value[:, tried[1]].mean()
            return (torch.sigmoid(layers[4](value)) - task().targets).double().square().sum().item() / 2 / len(x)

    fitted = torch.cat([batch.inputs for batch in calibrate(subject().batches).fit])  # what a compensation sees
    for count in range(8):
        before = curve.order[:count]
        assert curve.error[count] == pytest.approx(error(before), rel=1e-4)
        if count < 7:
            best = min(error(before, unit) for unit in removable(before))
            assert error(before, curve.order[count]) == pytest.approx(best, rel=1e-6)


def test_least_squares_and_the_surgeon_lose_less_than_zeros() -> None:
    order, counts = subject().order("oracle"), [0, 3, 5]
    zeros, refitted = subject().curve(order), subject().refitted(order, counts)
    surgeon = subject().by_surgeon(counts)
    assert refitted.error[0] == surgeon.error[0] == zeros.error[0]
    assert refitted.error[2] < zeros.error[5]
    assert surgeon.error[2] < zeros.error[5]
    assert surgeon.removed == counts


def test_the_surgeon_is_the_library_s_own_prune() -> None:
    curve = subject().by_surgeon([4])
    pruned = dh.prune(task().model, task().data, loss="squared_error", units=5, scope="all", curve=0)
    with torch.no_grad():
        error = (pruned.model(task().inputs) - task().targets).square().sum(1).mean().item() / 2
    assert curve.error[0] == pytest.approx(error, rel=1e-4)


def test_the_race_goes_through_all_units_but_one_of_each_layer() -> None:
    assert len(set(subject().race())) == 7


def test_deciding_on_a_part_of_the_data_measures_on_all_of_it() -> None:
    part = Subject(task(), decide_on=20)
    assert part.curve([]).error == subject().curve([]).error
    assert part.order("oracle") != subject().order("oracle")


def test_networks_of_the_same_layers_share_a_trace_and_nothing_else() -> None:
    other = Subject(shape("diamond", hidden=(5, 4), points=200, held=50, seed=2, most_epochs=2))
    assert other.network.static is subject().network.static
    with torch.no_grad():
        error = (other.task.model(other.task.inputs) - other.task.targets).square().sum(1).mean().item() / 2
    assert other.curve([]).error == pytest.approx([error])
    assert subject().curve([]).error == pytest.approx([error_by_hand(())])
    assert error != pytest.approx(error_by_hand(()))


def test_what_is_free_ends_before_the_first_point_past_the_limit() -> None:
    curve = Curve(10, bare=1.0, removed=[0, 1, 2, 3], error=[0.0, 0.2, 0.0, 0.5], accuracy=[1.0, 0.99, 0.98, 0.98])
    assert curve.free_by_error() == 0.0
    assert curve.free_by_error(rise=0.3) == 0.2
    assert curve.free_by_accuracy() == 0.1
    assert curve.free_by_accuracy(drop=0.5) == 0.3


def test_nothing_is_taken_from_a_layer_with_one_unit() -> None:
    scores = {"a": torch.tensor([-1.0, 0.5]), "b": torch.tensor([9.0, 2.0])}
    assert smallest(scores, []) == ("a", 0)
    assert smallest(scores, [("a", 0)]) == ("b", 1)
