"""What masks compute: closing is removing, means go into biases and come back, and all or nothing is done."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.cut.optimizer_state import state_of as entries_of
from deadhead.data.calibration import Batch
from deadhead.errors import CutError, DeadheadError, MaskError
from deadhead.gates.state import PrunedState
from deadhead.select.plan import plan_of
from deadhead.training.masking.masks import Masks
from support.closing import (
    CASES,
    Case,
    ChosenExperts,
    NormedTogether,
    Recurrent,
    SharedWeight,
    SummedGates,
    WeightNormed,
    draw,
    propagated,
)
from support.networks import mlp, unit_gain, values
from support.quick import each_of
from support.snapshot import Unharmed

ALL = pytest.mark.parametrize("name", each_of(CASES, lambda name: name not in ("two layers", "strided and dilated")))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@ALL
def test_zeros_compute_what_the_network_without_the_units_computes(name: str) -> None:
    case = CASES[name]
    model, inputs = case.model(), case.inputs()
    network = dh.trace(model, inputs)
    without = propagated(model, case, inputs, mean=False)
    plan = plan_of([(group, unit) for group, units in case.units.items() for unit in units])
    gated = PrunedState.of(network, plan).outputs(Batch(inputs, None, None, len(inputs)))
    masks = Masks(network, sgd(model))
    masks.close(case.units)
    other = draw(7, *case.shape, seed=8)
    close(model(inputs), gated)
    close(model(other), without(other))
    pruned = masks.cut()
    close(pruned.model(other), model(other))
    close(model.train()(other), without.train()(other))
    close(pruned.model.train()(other), model(other))
    assert sum(map(torch.numel, pruned.model.parameters())) < sum(map(torch.numel, model.parameters()))


@ALL
def test_means_go_into_biases_as_in_plain_loops_and_come_back(name: str) -> None:
    case = CASES[name]
    model, inputs = case.model(), case.inputs()
    before = state_of(model)
    reference = propagated(model, case, inputs)
    optimizer = sgd(model)
    masks = Masks(model, optimizer, example=inputs)
    masks.close(case.units, reference="mean", data=[inputs[:4], inputs[4:]])
    other = draw(7, *case.shape, seed=8)
    close(model(other), reference(other), 1e-11)
    assert not masks.refused
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}, "a new bias is trained"
    close(masks.cut().model(other), reference(other), 1e-11)
    masks.open()
    for key, tensor in model.state_dict().items():
        close(tensor, before.get(key, torch.zeros_like(tensor)))


def test_the_mean_is_taken_over_the_example_by_default() -> None:
    case = CASES["linear"]
    model, inputs = case.model(), case.inputs()
    reference = propagated(model, case, inputs)
    Masks(model, None, example=inputs).close(case.units, reference="mean")
    close(model(inputs), reference(inputs))


def test_the_units_of_an_lstm_are_closed_with_their_means_in_both_biases() -> None:
    """The reference steps through time by hand, and reads what closed units gave in the intact network."""
    torch.manual_seed(0)
    model, inputs = unit_gain(Recurrent()), draw(6, 4, 3)
    before = state_of(model)
    outputs = model.lstm(inputs)[0].detach()
    started = torch.cat([torch.zeros(6, 1, 5, dtype=torch.float64), outputs[:, :-1]], 1)  # what each step reads
    to_gates, to_fc = torch.zeros(20, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for unit in (1, 3):
        to_gates += before["lstm.weight_hh_l0"][:, unit] * started[..., unit].mean()
        to_fc += before["fc.weight"][:, unit] * outputs[:, -1, unit].mean()
    masks = Masks(model, None, example=inputs)
    masks.close({"lstm": [1, 3]}, reference="mean")
    other, hidden, cell = draw(3, 4, 3, seed=9), [torch.zeros(3, 5, dtype=torch.float64)] * 2, None
    hidden, cell = hidden
    kept = torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64)
    for time in range(4):
        gates = other[:, time] @ before["lstm.weight_ih_l0"].T + before["lstm.bias_ih_l0"]
        gates = gates + (hidden * kept) @ before["lstm.weight_hh_l0"].T + before["lstm.bias_hh_l0"] + to_gates
        enter, forget, new, leave = gates.chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
    close(model(other), (hidden * kept) @ before["fc.weight"].T + before["fc.bias"] + to_fc)
    close(masks.cut().model(other), model(other))
    masks.open()
    for key, tensor in model.state_dict().items():
        close(tensor, before[key])


def test_a_weight_with_two_names_is_closed_once() -> None:
    model, inputs = unit_gain(SharedWeight()), draw(6, 3)
    before = state_of(model)
    optimizer = sgd(model)
    masks = Masks(model, optimizer, example=inputs)
    masks.close({"a": [1, 4]})
    masks.close_weights({"b.weight": before["b.weight"] > 0})
    for _ in range(3):
        model(inputs).square().sum().backward()
        optimizer.step()
    assert model.a.weight is model.b.weight
    closed = before["a.weight"] <= 0
    closed[[1, 4]] = True
    assert not model.a.weight[closed].any()
    assert model.a.weight[~closed].all()
    close(masks.cut().model(inputs), model(inputs))
    masks.close_weights({"a.weight": torch.ones(5, 3, dtype=torch.bool)})
    masks.open()
    assert torch.equal(model.a.weight[closed], before["a.weight"][closed])


def test_a_weight_that_is_divided_by_its_own_norm_is_closed_by_the_length_before_it() -> None:
    model, inputs = unit_gain(WeightNormed()), draw(6, 3)
    before = state_of(model)
    length, direction = (f"hidden.parametrizations.weight.original{index}" for index in (0, 1))
    masks = Masks(model, sgd(model), example=inputs)
    masks.close({"hidden": [1]})
    state = model.state_dict()
    assert state[length][1] == 0
    assert torch.equal(state[direction], before[direction])
    hidden = torch.tanh(inputs @ (before[length] * torch.nn.functional.normalize(before[direction], dim=1)).T)
    hidden = torch.tanh(torch.atanh(hidden) + before["hidden.bias"])[:, [0, 2, 3, 4]]
    close(model(inputs), hidden @ before["out.weight"][:, [0, 2, 3, 4]].T + before["out.bias"])
    close(masks.cut().model(inputs), model(inputs))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_direction_that_zero_would_leave_undefined_is_held_at_what_it_was(kind: type[torch.optim.Optimizer]) -> None:
    model, inputs = unit_gain(WeightNormed()), draw(6, 3)
    options = {"momentum": 0.9, "weight_decay": 0.1} if kind is torch.optim.SGD else {"weight_decay": 0.1}
    optimizer = kind(model.parameters(), lr=0.05, **options)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()

    steps(3)
    direction = model.hidden.parametrizations.weight.original1
    before, states = direction.detach().clone(), {k: v.clone() for k, v in entries_of(optimizer, direction).items()}
    masks = Masks(model, optimizer, example=inputs)
    masks.close({"hidden": [1, 3]})
    steps(10)
    assert torch.equal(direction[[1, 3]], before[[1, 3]])
    assert not torch.equal(direction[[0, 2, 4]], before[[0, 2, 4]])
    masks.open()
    assert states
    for name, state in entries_of(optimizer, direction).items():
        assert torch.equal(state[[1, 3]], states[name][[1, 3]])


def test_units_are_opened_in_any_order_while_others_are_closed() -> None:
    """Unit i is read by unit j, whose bias has i's mean while j is closed itself."""
    model, inputs = mlp(3, 5, 4, 2), draw(6, 3)
    before = state_of(model)
    for order in (({"0": [1]}, {"2": [2]}), ({"2": [2]}, {"0": [1]})):
        for back in (order, order[::-1]):
            masks = Masks(model, sgd(model), example=inputs)
            for units in order:
                masks.close(units, reference="mean")
            for units in back:
                masks.open(units)
            for key, tensor in model.state_dict().items():
                close(tensor, before[key], 1e-13)
            masks.stop()


def test_of_units_closed_together_one_opens_and_the_constant_of_the_other_stays() -> None:
    case = Case(lambda: mlp(3, 5, 4, 2), (3,), {"0": [1]}, {"2": [1]})
    model, inputs = case.model(), case.inputs()
    alone = propagated(model, case, inputs)
    masks = Masks(model, sgd(model), example=inputs)
    masks.close({"0": [1, 3]}, reference="mean")
    masks.open({"0": [3]})
    close(model(inputs), alone(inputs))


def test_units_anew_are_as_of_a_fresh_layer_and_others_stay_to_the_bit() -> None:
    model, inputs = mlp(3, 50, 4, 2), draw(6, 3)
    before = state_of(model)
    optimizer = sgd(model)
    model(inputs).square().sum().backward()
    optimizer.step()
    trained = state_of(model)
    masks = Masks(model, optimizer, example=inputs)
    masks.close({"0": list(range(10, 40))})
    masks.open({"0": list(range(10, 30))}, how="anew")
    weight, outgoing = model[0].weight, model[2].weight
    assert torch.equal(weight[:10], trained["0.weight"][:10])
    assert not weight[30:40].any()
    fresh = weight[10:30].detach()
    assert not torch.isclose(fresh, trained["0.weight"][10:30]).any()
    assert 0.2 * 3**-0.5 < float(fresh.std()) < 3**-0.5, "uniform up to one by the root of the inputs"
    assert float(fresh.abs().max()) <= 3**-0.5
    assert float(outgoing[:, 10:30].detach().abs().max()) <= 50**-0.5
    momentum = optimizer.state[weight]["momentum_buffer"]
    assert not momentum[10:40].any()
    assert momentum[:10].all()
    assert before.keys() == model.state_dict().keys()


UNCLOSABLE = {
    "chosen among": (ChosenExperts, "router", "something chooses among them"),
    "summed": (SummedGates, "a", "does not read zeros as nothing"),
    "normalised together": (NormedTogether, "wide", "they are normalised together"),
}


@pytest.mark.parametrize("name", UNCLOSABLE)
def test_units_that_zeros_do_not_close_are_refused_and_nothing_changes(name: str, unharmed: Unharmed) -> None:
    make, group, why = UNCLOSABLE[name]
    model, inputs = unit_gain(make()), draw(6, 4)
    optimizer = sgd(model)
    model(inputs).square().sum().backward()
    optimizer.step()
    masks = Masks(dh.trace(model, inputs, width=True), optimizer)
    masks.close({"hidden": [2]})
    momentum = copy.deepcopy(list(optimizer.state.values()))
    with unharmed(model), pytest.raises(MaskError, match=f"Units of {group} cannot be closed by zeros.*{why}.*exclude"):
        masks.close({"hidden": [1], group: [1]}, reference="mean")
    assert masks.closed == {"hidden": [2]}
    for old, new in zip(momentum, optimizer.state.values(), strict=True):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])
    masks.close({"hidden": [1]})
    assert masks.closed == {"hidden": [1, 2]}


def keep_of(shape: tuple[int, ...]) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


WRONG = {
    "no such group": (lambda m: m.close({"0": [1], "9": [1]}), "There is no group '9' to close; the groups are 0, 2"),
    "no such unit": (lambda m: m.close({"0": [1, 5]}), r"0 has units 0 to 4, not \[1, 5\]"),
    "a negative unit": (lambda m: m.close({"0": [-1]}), r"0 has units 0 to 4, not \[-1\]"),
    "a mask of another size": (
        lambda m: m.close({"0": torch.ones(4, dtype=torch.bool)}),
        "0 has units 0 to 4, not a mask",
    ),
    "fractions of units": (lambda m: m.close({"0": torch.tensor([1.0])}), "0 has units 0 to 4"),
    "all units": (lambda m: m.close({"2": [0, 1], "0": range(5)}), "Of the 5 units of 0 at least 1 must be open"),
    "no such reference": (lambda m: m.close({"0": [1]}, reference="median"), "no reference 'median'.*zero and mean"),
    "opening what is open": (lambda m: m.open({"2": [3, 0]}), r"2 to open not closed: \[0\]"),
    "no such way to open": (lambda m: m.open(how="new"), "no way 'new' to open.*as it was and anew"),
    "no such parameter": (lambda m: m.close_weights({"0.weights": keep_of((5, 3))}), "no parameter '0.weights'"),
    "another shape": (lambda m: m.close_weights({"0.weight": keep_of((3, 5))}), r"0.weight has shape \(5, 3\)"),
    "no bools": (lambda m: m.close_weights({"0.weight": torch.ones(5, 3)}), "give a bool tensor of its shape"),
    "data without values": (lambda m: m.close({"0": [1]}, reference="mean", data=[]), "data"),
    "no data": (lambda m: m.prune(units=0.5), "give data= and loss="),
    "no budget": (lambda m: m.prune(DATA, loss="mse"), "Give exactly one budget"),
    "two budgets": (lambda m: m.prune(DATA, loss="mse", units=0.5, params=0.5), "Give exactly one budget"),
    "more than all": (lambda m: m.prune(DATA, loss="mse", units=1.5), "units=1.5 is out of range"),
    "nothing": (lambda m: m.prune(DATA, loss="mse", params=1e-9), "leaves nothing"),
    "weights beside units": (lambda m: m.prune(DATA, loss="mse", weights=0.5, units=0.5), "call prune once for each"),
    "too many weights": (lambda m: m.prune(weights=1.5), "weights=1.5 is out of range"),
    "no such scope of weights": (lambda m: m.prune(weights=0.5, scope="layer"), "no scope 'layer'"),
    "no such criterion": (lambda m: m.prune(DATA, loss="mse", units=0.5, criterion="mri"), "did you mean 'mrs'"),
    "no such loss": (lambda m: m.prune(DATA, loss="msee", units=0.5), "msee"),
    "a pattern without groups": (lambda m: m.prune(DATA, loss="mse", units={"7": 0.5}), "matches no group"),
    "an option that is none": (lambda m: m.prune(DATA, loss="mse", units=0.5, maximum=3), "no argument of that name"),
}
DATA = values(12, 3, batch=6)


@pytest.mark.parametrize("name", WRONG)
def test_what_a_user_gets_wrong_is_said_in_a_sentence_and_nothing_changes(name: str, unharmed: Unharmed) -> None:
    act, message = WRONG[name]
    model = mlp(3, 5, 4, 2)
    masks = Masks(model, sgd(model), example=draw(6, 3))
    masks.close({"2": [3]})
    with unharmed(model), pytest.raises(DeadheadError, match=message):
        act(masks)
    assert masks.closed == {"2": [3]}


def test_what_masks_are_made_of_is_checked() -> None:
    model = mlp(3, 5, 2)
    with pytest.raises(MaskError, match="give example=inputs"):
        Masks(model, sgd(model))
    with pytest.raises(MaskError, match=r"optimizer is a list.*torch\.optim\.Optimizer|optimizer is a"):
        Masks(model, [model], example=draw(2, 3))  # type: ignore[list-item]
    with pytest.raises(CutError, match="holds no parameter of Sequential"):
        Masks(model, sgd(mlp(3, 5, 2)), example=draw(2, 3))


def test_what_hides_a_difference_now_does_not_make_zeros_close_units() -> None:
    """All weights behind the units are closed, so that zeros in their place change nothing until these are opened."""
    model, inputs = unit_gain(SummedGates()), draw(6, 4)
    masks = Masks(model, None, example=inputs)
    masks.close_weights({"out.weight": torch.zeros(2, 1, dtype=torch.bool)})
    with pytest.raises(MaskError, match="does not read zeros as nothing"):
        masks.close({"a": [1]})
    assert not model.out.weight.any()
