"""Every criterion against a plain loop: one row at a time, hooks for gates, autograd for derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadhead as dh
from support.networks import Flat, Residual, TwoReaders, classes, conv_pair, mlp, unit_gain
from support.references import (
    axis_of,
    gate_gradients,
    inputs_of,
    loss_changes,
    replaced,
)


def rows_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.logsumexp(outputs, 1) - outputs[torch.arange(len(outputs)), targets]


@dataclass(frozen=True)
class Case:
    """A network, the shape of a row, the classes, and for each group the input columns of unit k at each consumer."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    columns: dict[str, dict[str, Callable[[int], list[int]]]]

    def data(self, rows: int = 12, seed: int = 0, batch: int | None = None) -> list[tuple[Tensor, Tensor]]:
        return classes(rows, *self.shape, count=self.classes, seed=seed, batch=batch)


def one(k: int) -> list[int]:
    return [k]


CASES = {
    "mlp": Case(lambda: mlp(3, 5, 4, 3), (3,), 3, {"0": {"2": one}, "2": {"4": one}}),
    "flattened channels": Case(
        lambda: unit_gain(Flat()),
        (2, 6, 6),
        4,
        {"conv1": {"conv2": one}, "conv2": {"fc1": lambda k: list(range(4 * k, 4 * k + 4))}, "fc1": {"fc2": one}},
    ),
    "residual": Case(
        lambda: unit_gain(Residual()),
        (2, 5, 5),
        3,
        {"stem": {"a1": one, "b1": one, "fc": one}, "a1": {"a2": one}, "b1": {"b2": one}},
    ),
    "several consumers": Case(lambda: unit_gain(TwoReaders()), (3,), 2, {"hidden": {"left": one, "right": one}}),
    "grouped convolution": Case(
        lambda: nn.Sequential(*conv_pair(groups=2, padding=1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (2, 5, 5),
        4,
        {"0": {"2": lambda k: [k, 3 + k]}},
    ),
}
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


NETWORKS: dict[int, tuple[nn.Module, dh.Network]] = {}


def network_of(model: nn.Module, inputs: Tensor) -> dh.Network:
    """A network for each model, traced once."""
    if id(model) not in NETWORKS:
        NETWORKS[id(model)] = (model, dh.trace(model, inputs))
    return NETWORKS[id(model)][1]


def sizes(case: Case, model: nn.Module) -> dict[str, int]:
    return {group.name: group.size for group in network_of(model, case.data()[0][0]).groups}


def score(case: Case, model: nn.Module, criterion: str, data: object = None, **options: object) -> dict[str, Tensor]:
    found = dh.score(
        model if isinstance(model, dh.Network) else network_of(model, case.data()[0][0]),
        case.data() if data is None else data,  # type: ignore[arg-type]
        loss="cross_entropy",
        criterion=criterion,
        **options,  # type: ignore[arg-type]
    )
    assert list(found) == list(case.columns), "groups in forward order"
    assert all(value.dtype == torch.float64 and value.device.type == "cpu" for value in found.values())
    return found


def closings(
    case: Case, model: nn.Module, group: str, unit: int, references: dict[str, Tensor]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The edits that replace a unit by its reference wherever it is read."""
    return {
        module: replaced(axis_of(model.get_submodule(module)), which(unit), references[module][which(unit)])
        for module, which in case.columns[group].items()
    }


def references_of(case: Case, model: nn.Module, group: str, kind: str) -> dict[str, Tensor]:
    """For each consumer a value for each column: zero, or the mean, least or greatest over samples and positions."""
    found = {}
    for module in case.columns[group]:
        axis = axis_of(model.get_submodule(module))
        columns = torch.cat([value.movedim(axis, -1).flatten(0, -2) for value in inputs_of(model, module, case.data())])
        found[module] = {
            "zero": torch.zeros_like(columns[0]),
            "mean": columns.mean(0),
            "min": columns.amin(0),
            "max": columns.amax(0),
        }[kind]
    return found


def by_loop(case: Case, model: nn.Module, reference: str, measure: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """`measure` of how each row's loss changes when a unit is closed, for every unit."""
    result = {}
    for group, size in sizes(case, model).items():
        references = references_of(case, model, group, reference)
        result[group] = torch.stack(
            [
                measure(loss_changes(model, closings(case, model, group, unit, references), case.data(), rows_entropy))
                for unit in range(size)
            ]
        )
    return result


def by_autograd(case: Case, model: nn.Module, reference: str, measure: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """`measure` of `dL_n/dalpha` over the rows, for every unit."""
    result = {}
    for group, size in sizes(case, model).items():
        references = references_of(case, model, group, reference)
        result[group] = torch.stack(
            [
                measure(
                    gate_gradients(
                        model,
                        {module: which(unit) for module, which in case.columns[group].items()},
                        references,
                        case.data(),
                        rows_entropy,
                    )
                )
                for unit in range(size)
            ]
        )
    return result


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-9) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert value.abs().max() > 1e-3, "a saliency of nothing proves nothing"
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=1e-12 * float(value.abs().max()) + 1e-15)


# -- against plain loops ---------------------------------------------------------------------------------------------


@ALL
def test_oracle_is_the_change_of_the_mean_loss_without_the_unit(case: Case) -> None:
    model = case.make()
    assert_same(score(case, model, "oracle"), by_loop(case, model, "zero", lambda change: change.mean()))


@ALL
@pytest.mark.parametrize("reference", ["mean", "min", "max"])
def test_oracle_takes_the_reference_it_is_given(case: Case, reference: str) -> None:
    model = case.make()
    found = score(case, model, "oracle", reference=reference)
    assert_same(found, by_loop(case, model, reference, lambda change: change.mean()))


@ALL
def test_mrp_is_the_sum_of_absolute_changes_under_the_mean(case: Case) -> None:
    model = case.make()
    expected = by_loop(case, model, "mean", lambda change: change.abs().sum())
    assert_same(score(case, model, "mrp"), expected)
    assert_same(score(case, model, "mrp", reference="zero"), expected)


@ALL
def test_mrs_is_the_sum_of_absolute_derivatives_under_the_mean(case: Case) -> None:
    model = case.make()
    expected = by_autograd(case, model, "mean", lambda gradient: gradient.abs().sum())
    assert_same(score(case, model, "mrs"), expected)
    assert_same(score(case, model, "mrs", reference="max"), expected)


@ALL
@pytest.mark.parametrize("reference", ["zero", "mean"])
def test_taylor1_is_minus_the_derivative_of_the_mean_loss(case: Case, reference: str) -> None:
    model = case.make()
    expected = by_autograd(case, model, reference, lambda gradient: -gradient.mean())
    assert_same(score(case, model, "taylor1", reference=reference), expected, rtol=1e-8)


@ALL
def test_activation_std_is_the_spread_of_what_is_read(case: Case) -> None:
    model = case.make()
    expected = {}
    for group, consumers in case.columns.items():
        size = sizes(case, model)[group]
        variances = torch.zeros(size, dtype=torch.float64)
        for module, which in consumers.items():
            axis = axis_of(model.get_submodule(module))
            read = [value.movedim(axis, -1).flatten(0, -2) for value in inputs_of(model, module, case.data())]
            variance = torch.cat(read).var(0, correction=0)
            variances += torch.stack([variance[which(unit)].sum() for unit in range(size)])
        expected[group] = variances.sqrt()
    assert_same(score(case, model, "activation_std"), expected)


MADE_BY = {
    "mlp": {"0": [("0.weight", 0, one)], "2": [("2.weight", 0, one)]},
    "flattened channels": {
        "conv1": [("conv1.weight", 0, one)], "conv2": [("conv2.weight", 0, one)], "fc1": [("fc1.weight", 0, one)],
    },
    "residual": {
        "stem": [("stem.weight", 0, one), ("a2.weight", 0, one), ("b2.weight", 0, one)],
        "a1": [("a1.weight", 0, one)], "b1": [("b1.weight", 0, one)],
    },
    "several consumers": {"hidden": [("hidden.weight", 0, one)]},
    "grouped convolution": {"0": [("0.weight", 0, lambda k: [k, 3 + k])]},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_magnitude_is_the_norm_of_the_weights_that_make_the_unit(name: str) -> None:
    case, model = CASES[name], CASES[name].make()
    weights = dict(model.named_parameters())
    found = score(case, model, "magnitude")
    expected = {}
    for group, makers in MADE_BY[name].items():
        squares = torch.zeros(len(found[group]), dtype=torch.float64)
        for weight, axis, which in makers:
            rows = weights[weight].detach().movedim(axis, 0)
            squares += torch.stack([rows[which(k)].square().sum() for k in range(len(squares))])
        expected[group] = squares.sqrt()
    assert_same(found, expected)


def test_the_hand_worked_case_of_the_paper() -> None:
    """2-2-1 sigmoid without biases: the linear estimate and brute force, to ten digits."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sigmoid(), nn.Linear(2, 1, bias=False), nn.Sigmoid()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[1.5, -2.0]]))
    data = [(torch.tensor([[1.0, 0.5]]).double(), torch.tensor([[1.0]]).double())]
    linear = dh.score(model, data, loss="squared_error", criterion="taylor1")["0"]
    brute = dh.score(model, data, loss="squared_error", criterion="oracle")["0"]
    torch.testing.assert_close(
        linear, torch.tensor([0.1105185146, -0.0631628403], dtype=torch.float64), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        brute, torch.tensor([0.1658232772, -0.0433902121], dtype=torch.float64), rtol=0, atol=1e-9
    )


# -- claims about all of them ----------------------------------------------------------------------------------------

WITH_DATA = ["oracle", "mrp", "mrs", "taylor1", "activation_std"]


@ALL
@pytest.mark.parametrize("criterion", WITH_DATA)
def test_scores_do_not_depend_on_how_rows_are_batched(case: Case, criterion: str) -> None:
    model = case.make()
    whole = score(case, model, criterion, case.data(11))
    for batch in (1, 2, 5):
        assert_same(score(case, model, criterion, case.data(11, batch=batch)), whole)


@pytest.mark.parametrize("criterion", [*WITH_DATA, "magnitude"])
def test_scores_do_not_depend_on_the_order_of_rows(criterion: str) -> None:
    case = CASES["residual"]
    model = case.make()
    (inputs, targets), order = case.data()[0], torch.randperm(12)
    assert_same(score(case, model, criterion, [(inputs[order], targets[order])]), score(case, model, criterion))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(order=st.permutations(range(5)), criterion=st.sampled_from([*WITH_DATA, "magnitude"]))
def test_permuted_units_have_permuted_scores(order: list[int], criterion: str) -> None:
    case = CASES["mlp"]
    model, other = case.make(), case.make()
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[order])
        other[0].bias.copy_(model[0].bias[order])
        other[2].weight.copy_(model[2].weight[:, order])
    before, after = score(case, model, criterion), score(case, other, criterion)
    torch.testing.assert_close(after["0"], before["0"][order], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(after["2"], before["2"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["mlp", "residual", "flattened channels"])
def test_a_unit_that_is_constant_has_no_mean_replacement_penalty_and_no_saliency(name: str) -> None:
    case, model = CASES[name], CASES[name].make()
    group = {"mlp": "0", "residual": "a1", "flattened channels": "fc1"}[name]
    maker = model.get_submodule(group)
    with torch.no_grad():
        maker.weight[1] = 0
        maker.bias[1] = 0.8
    for criterion in ("mrp", "mrs"):
        found = score(case, model, criterion)[group]
        assert found[1] < 1e-13 * found.max()
        assert (found > 1e-3 * found.max()).sum() >= len(found) - 1
    assert score(case, model, "oracle")[group][1].abs() > 1e-3, "its constant matters"
    assert score(case, model, "activation_std")[group][1] < 1e-7


def test_mrs_tends_to_mrp_as_deviations_shrink() -> None:
    case = CASES["mlp"]
    model = case.make()
    inputs, targets = case.data(24)[0]
    gaps = []
    for shrink in (1.0, 0.1, 0.01, 0.001):
        data = [(inputs.mean(0) + shrink * (inputs - inputs.mean(0)), targets)]
        mrs, mrp = score(case, model, "mrs", data)["0"], score(case, model, "mrp", data)["0"]
        gaps.append(((mrs - mrp).abs().sum() / mrp.sum()).item())
    assert gaps[0] > 1e-3
    for wide, narrow in itertools.pairwise(gaps):
        assert narrow < 0.3 * wide
    assert gaps[-1] < 1e-3


def test_taylor1_tends_to_the_oracle_as_units_shrink() -> None:
    case = CASES["mlp"]
    gaps = []
    for shrink in (0.1, 0.01, 0.001):
        model = case.make()
        with torch.no_grad():
            model[2].weight.mul_(shrink)
        linear, exact = score(case, model, "taylor1")["0"], score(case, model, "oracle")["0"]
        gaps.append(((linear - exact).abs().sum() / exact.abs().sum()).item())
    assert gaps[1] < 0.3 * gaps[0]
    assert gaps[2] < 0.3 * gaps[1]


@pytest.mark.parametrize("criterion", ["taylor1", "oracle"])
def test_signed_criteria_are_signed_unless_asked_otherwise(criterion: str) -> None:
    case = CASES["residual"]
    model = case.make()
    signed, plain = score(case, model, criterion), score(case, model, criterion, absolute=True)
    assert any((value < 0).any() for value in signed.values())
    for name, value in signed.items():
        assert torch.equal(plain[name], value.abs())


def test_random_follows_its_seed_and_nothing_else() -> None:
    case = CASES["mlp"]
    first = score(case, case.make(), "random", seed=3)
    torch.rand(7)
    again = score(case, case.make(), "random", case.data(seed=5), seed=3)
    other = score(case, case.make(), "random", seed=4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_only_as_many_rows_as_asked_are_used() -> None:
    case = CASES["mlp"]
    model = case.make()
    inputs, targets = case.data(30)[0]
    found = score(case, model, "mrs", [(inputs[:20], targets[:20]), (inputs[20:], targets[20:])], samples=23)
    assert_same(found, score(case, model, "mrs", [(inputs[:23], targets[:23])]))


def test_a_network_scores_as_its_module_does() -> None:
    case = CASES["residual"]
    model = case.make()
    network = dh.trace(model, case.data()[0][0])
    found = dh.score(model, case.data(), loss="cross_entropy", criterion="mrs")
    assert_same(score(case, network, "mrs"), found)  # type: ignore[arg-type]


def test_a_model_in_train_mode_is_scored_in_evaluation_mode() -> None:
    case = CASES["residual"]
    model = case.make()
    expected = score(case, model, "mrs")
    found = dh.score(model.train(), case.data(), loss="cross_entropy", criterion="mrs")
    assert_same(found, expected)


def test_progress_hears_of_every_batch() -> None:
    case, events = CASES["mlp"], []
    score(case, case.make(), "mrs", case.data(12, batch=4), progress=lambda *event: events.append(event))
    assert events == [("mrs", done, 3) for done in range(4)]


# -- rows that lie elsewhere -----------------------------------------------------------------------------------------


class Sequences(nn.Module):
    """(n, t, 3) to (n, 3) by way of (t, n, .) or (t * n, .), where the first axis does not count the rows."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        hidden = torch.tanh(self.first(x))
        if self.how == "time first":
            return self.last(hidden.transpose(0, 1)).mean(0)
        if self.how == "merged, time outside":
            flat = hidden.transpose(0, 1).reshape(length * rows, 5)
            return self.last(flat).reshape(length, rows, 3).mean(0)
        return self.last(hidden.reshape(rows * length, 5)).reshape(rows, length, 3).mean(1)


@pytest.mark.parametrize("how", ["rows outside", "merged, time outside", "time first"])
@pytest.mark.parametrize("length", [4, 3])
def test_mrs_is_right_or_refused_wherever_the_rows_lie(how: str, length: int) -> None:
    model = unit_gain(Sequences(how))
    data = classes(4, length, 3)
    mean = torch.cat([value.flatten(0, -2) for value in inputs_of(model, "last", data)]).mean(0)
    expected = torch.stack(
        [gate_gradients(model, {"last": [k]}, {"last": mean}, data, rows_entropy).abs().sum() for k in range(5)]
    )
    try:
        found = dh.score(model, data, loss="cross_entropy", criterion="mrs")["first"]
    except dh.DataError as error:
        assert how != "rows outside"
        assert "samples" in str(error).lower()  # noqa: PT017
    else:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


class SeesOthers(nn.Module):
    """Normalised by the statistics of the batch, also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Linear(3, 5),
            nn.BatchNorm1d(5, track_running_stats=False),
            nn.Linear(5, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


class Contrasts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.last(torch.tanh(self.first(x)))
        return hidden - hidden.mean(0, keepdim=True)


@pytest.mark.parametrize("criterion", ["mrs", "mrp"])
def test_statistics_of_the_batch_in_evaluation_are_refused(criterion: str) -> None:
    with pytest.raises(dh.DeadheadError, match="sample"):
        dh.score(unit_gain(SeesOthers()), classes(12, 3), loss="cross_entropy", criterion=criterion)


def test_samples_that_see_each_other_are_scored_as_the_plain_loop_does() -> None:
    model = unit_gain(Contrasts()).double()
    data = [(torch.randn(rows, 3, dtype=torch.float64), torch.randint(3, (rows,))) for rows in (5, 3)]
    mean = torch.cat([torch.tanh(model.first(x)) for x, _ in data]).mean(0).detach()
    mrs, mrp = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for x, targets in data:
        hidden = torch.tanh(model.first(x)).detach()

        def losses(gates: Tensor, hidden: Tensor = hidden, targets: Tensor = targets) -> Tensor:
            out = model.last(mean + gates * (hidden - mean))
            return nn.functional.cross_entropy(out - out.mean(0, keepdim=True), targets, reduction="none")

        ones = torch.ones(5, dtype=torch.float64)
        mrs += torch.autograd.functional.jacobian(losses, ones).abs().sum(0)
        for unit in range(5):
            mrp[unit] += (losses(ones.index_fill(0, torch.tensor([unit]), 0)) - losses(ones)).abs().sum().detach()
    for criterion, expected in (("mrs", mrs), ("mrp", mrp)):
        found = dh.score(model, data, loss="cross_entropy", criterion=criterion)["first"]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_half_precision_network_is_scored_close_to_its_float32_twin() -> None:
    case = CASES["mlp"]
    model = case.make().bfloat16()
    data = [(inputs.bfloat16(), targets) for inputs, targets in case.data(64)]
    twin = case.make().bfloat16().float()
    for criterion in ("mrs", "taylor1", "activation_std"):
        found = dh.score(model, data, loss="cross_entropy", criterion=criterion)
        expected = dh.score(
            twin, [(inputs.float(), targets) for inputs, targets in data], loss="cross_entropy", criterion=criterion
        )
        for name, value in expected.items():
            assert (found[name] - value).abs().max() < 0.05 * value.abs().max()
