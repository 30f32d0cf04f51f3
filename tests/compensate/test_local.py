"""Compensation against dense regressions on explicit patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from deadhead.reconstruction.solve import FIT_DAMPINGS, solve
from support.networks import Flat, Residual, TwoReaders, classes, conv_pair, mlp, unit_gain, values
from support.quick import each_of
from support.references import Data, columns_of, inputs_of, laid_out, least_squares, ridge, without
from support.snapshot import bits

FAST: dict[str, Any] = {"loss": "mse", "criterion": "magnitude"}


def parts(data: Data) -> tuple[Data, Data]:
    """The rows that were fitted to, and those that were held out."""
    calibration = calibrate(read(data))
    return tuple([(b.inputs, b.targets) for b in part] for part in (calibration.fit, calibration.held_out))  # type: ignore[return-value]


def prune(model: nn.Module, data: Data, **options: Any) -> dh.Pruned:
    return dh.prune(model, data, **{**FAST, "units": 0.5, "compensate": "least_squares", **options})


def removed(pruned: dh.Pruned, group: str) -> list[int]:
    return pruned.plan.removed[group].tolist()


# -- the solver ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(2, 6),
    outputs=st.integers(1, 3),
    damping=st.sampled_from([0.0, *FIT_DAMPINGS]),
    constant=st.booleans(),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_solve_equals_a_dense_regression(
    n: int, outputs: int, damping: float, constant: bool, seed: int, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1).map(sorted))
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(50, n, generator=generator, dtype=torch.float64) + 1
    wanted = torch.randn(50, outputs, generator=generator, dtype=torch.float64)
    prior = torch.randn(outputs, n, generator=generator, dtype=torch.float64)
    wide = torch.cat([columns, columns.new_ones(50, 1)], 1)
    which = torch.tensor([*kept, *([n] if constant else [])])
    reference = torch.cat([prior, prior.new_zeros(outputs, 1)], 1)
    found = solve(wanted.T @ wide / 50, wide.T @ wide / 50, which, damping, reference)
    expected = ridge(columns, wanted, kept, prior, damping, constant)[:, which]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_solve_gives_the_shortest_answer_where_columns_are_equal() -> None:
    column = torch.randn(30, 1, dtype=torch.float64)
    wide = torch.cat([column, column, torch.ones(30, 1, dtype=torch.float64)], 1)
    gram = wide.T @ wide / 30
    weight = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)
    both = solve(weight @ gram, gram, torch.tensor([0, 1, 2]), 0.0, weight)
    torch.testing.assert_close(wide @ both.T, wide @ weight.T, rtol=1e-6, atol=1e-8)
    assert both.abs().max() < 10


# -- consumers -------------------------------------------------------------------------------------------------------

SETTINGS = [
    {}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 1}, {"groups": 2, "padding": 1},
    {"groups": 3, "stride": 2}, {"kernel": 1}, {"padding": "same", "kernel": 2}, {"rank": 1, "groups": 2},
    {"rank": 3, "kernel": 2, "padding": 1}, {"bias": False, "padding": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_least_squares_on_a_convolution_is_a_dense_regression_on_its_patches(options: dict[str, Any]) -> None:
    model = conv_pair(**options)
    rank = options.get("rank", 2)
    inputs = torch.randn(40, 2, *[6, 5, 4][:rank], dtype=torch.float64)
    data = [(part, model(part).detach()) for part in inputs.split(16)]
    pruned = prune(model, data)
    groups = options.get("groups", 1)
    dead = removed(pruned, "0")
    assert len(dead) == 6 // groups - round(6 // groups / 2)
    expected = least_squares(model, {"2": dead}, *parts(data), FIT_DAMPINGS)
    new = torch.randn(8, *inputs.shape[1:], dtype=torch.float64)
    found, wanted = pruned.model(new), expected(new)
    assert (wanted - model(new)).abs().max() > 0.01 * wanted.abs().max()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7 * float(wanted.abs().max()))


@pytest.mark.parametrize("batch", [7, 60])
def test_least_squares_on_a_linear_layer_is_a_dense_regression(batch: int) -> None:
    model = mlp(3, 8, 4)
    data = values(60, 3, out=4, batch=batch)
    pruned = prune(model, data)
    expected = least_squares(model, {"2": removed(pruned, "0")}, *parts(data), FIT_DAMPINGS)
    new = torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), expected(new), rtol=1e-6, atol=1e-8)
    kept = [k for k in range(8) if k not in removed(pruned, "0")]
    torch.testing.assert_close(pruned.model[2].weight, expected[2].weight[:, kept], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(pruned.model[2].bias, expected[2].bias, rtol=1e-6, atol=1e-7)


def deep() -> tuple[nn.Module, Data, Callable[[dh.Pruned], dict[str, list[int]]]]:
    model = mlp(3, 8, 7, 6, 2)
    return model, values(80, 3), lambda pruned: {str(2 * i + 2): removed(pruned, str(2 * i)) for i in range(3)}


def flat() -> tuple[nn.Module, Data, Callable[[dh.Pruned], dict[str, list[int]]]]:
    def dead(pruned: dh.Pruned) -> dict[str, list[int]]:
        columns = [4 * k + position for k in removed(pruned, "conv2") for position in range(4)]
        return {"conv2": removed(pruned, "conv1"), "fc1": columns, "fc2": removed(pruned, "fc1")}

    return unit_gain(Flat()), values(80, 2, 6, 6, out=4), dead


def residual() -> tuple[nn.Module, Data, Callable[[dh.Pruned], dict[str, list[int]]]]:
    def dead(pruned: dh.Pruned) -> dict[str, list[int]]:
        stream = removed(pruned, "stem")
        return {
            "a1": stream, "a2": removed(pruned, "a1"), "b1": stream, "b2": removed(pruned, "b1"), "fc": stream
        }  # fmt: skip

    return unit_gain(Residual()), values(80, 2, 5, 5, out=3), dead


@pytest.mark.parametrize("case", [deep, flat, residual], ids=lambda case: case.__name__)
def test_layers_are_treated_front_to_back_each_reading_the_network_pruned_so_far(case: Any) -> None:
    model, data, dead = case()
    pruned = prune(model, data)
    expected = least_squares(model, dead(pruned), *parts(data), FIT_DAMPINGS)
    # In the reference the removed units of the stream still run through the residual additions: nothing reads them.
    new = data[0][0][:16]
    found, wanted = pruned.model(new), expected(new)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("case", [deep, flat, residual], ids=lambda case: case.__name__)
def test_in_one_pass_each_layer_reads_the_intact_network(case: Any) -> None:
    model, data, dead = case()
    pruned = prune(model, data, compensate="least_squares_one_pass")
    expected = least_squares(model, dead(pruned), *parts(data), FIT_DAMPINGS, front_to_back=False)
    new = data[0][0][:16]
    found, wanted = pruned.model(new), expected(new)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


def test_the_mean_is_what_the_removed_units_gave_on_average() -> None:
    for model, data, taps in ((mlp(3, 8, 6), values(60, 3), 1), (conv_pair(stride=2), values(40, 2, 6, 5), 9)):
        pruned = prune(model, data, compensate="mean", loss=lambda outputs, batch: outputs.flatten(1).square().sum(1))
        reader, dead = model[2], removed(pruned, "0")
        gone = [taps * k + tap for k in dead for tap in range(taps)]
        fit, _ = parts(data)
        columns = torch.cat([columns_of(reader, value) for value in inputs_of(model, "2", fit)], 1)[0]
        constant = laid_out(reader)[0][:, gone] @ columns[:, gone].mean(0)
        torch.testing.assert_close(pruned.model[2].bias, reader.bias + constant, rtol=1e-12, atol=1e-13)
        kept = [k for k in range(reader.weight.shape[1]) if k not in dead]
        assert torch.equal(pruned.model[2].weight, reader.weight[:, kept])


def test_zero_changes_nothing_but_what_is_removed() -> None:
    model, data = mlp(3, 8, 4), values(60, 3, out=4)
    pruned = prune(model, data, compensate="zero")
    new = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close(
        pruned.model(new), without(model, {"2": removed(pruned, "0")}, new), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("compensate", ["mean", "least_squares"])
@pytest.mark.parametrize("kind", ["linear", "conv", "conv without bias"])
def test_a_constant_unit_is_absorbed_exactly(compensate: str, kind: str) -> None:
    model = mlp(3, 6, 4) if kind == "linear" else conv_pair(bias=kind == "conv")
    with torch.no_grad():
        model[0].weight[2] = 0.0
        model[0].bias[2] = 0.9
    shape = (3,) if kind == "linear" else (2, 6, 5)
    data = values(40, *shape)
    pruned = prune(
        model, data, criterion="activation_std", units=5, compensate=compensate, loss=lambda o, b: o.flatten(1).sum(1)
    )
    assert removed(pruned, "0") == [2]
    new = torch.randn(9, *shape, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), model(new), rtol=1e-9, atol=1e-9)
    assert (without(model, {"2": [2]}, new) - model(new)).abs().max() > 0.01


def test_a_constant_under_zero_padding_is_a_bias_inside_and_reported_by_what_remains() -> None:
    model = conv_pair(padding=1)
    with torch.no_grad():
        model[0].weight[2] = 0.0
        model[0].bias[2] = 0.9
    data = values(40, 2, 6, 5)
    pruned = prune(model, data, criterion="activation_std", units=5, loss=lambda o, b: o.flatten(1).sum(1))
    fits = least_squares(model, {"2": [2]}, *parts(data), FIT_DAMPINGS)
    new = torch.randn(9, 2, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), fits(new), rtol=0, atol=1e-7)
    closed = (without(model, {"2": [2]}, new) - model(new)).square().mean()
    assert (pruned.model(new) - model(new)).square().mean() < 0.25 * closed


def test_a_unit_that_another_repeats_is_taken_over() -> None:
    model = mlp(3, 6, 4)
    with torch.no_grad():
        model[0].weight[3] = model[0].weight[1] = 0.3 * model[0].weight[1]
        model[0].bias[3] = model[0].bias[1]
    data = values(200, 3, out=4)
    pruned = prune(model, data, units=5)
    assert removed(pruned, "0") in ([1], [3])
    new = torch.randn(9, 3, dtype=torch.float64)
    closed = (without(model, {"2": removed(pruned, "0")}, new) - model(new)).abs().max()
    assert (pruned.model(new) - model(new)).abs().max() < 1e-3 * closed


# -- where the constant goes -----------------------------------------------------------------------------------------


class Behind(nn.Module):
    """A consumer without a bias, and what stands behind it."""

    def __init__(self, behind: str) -> None:
        super().__init__()
        self.behind = behind
        self.first = nn.Conv2d(2, 6, 1)
        self.second = nn.Conv2d(6, 5, 3, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.last = nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.sigmoid(self.first(x)))
        if self.behind == "norm":
            x = self.norm(x)
        elif self.behind == "norm and more":
            x = self.norm(x) + 0.1 * x
        return self.last(torch.relu(x)).mean((2, 3))


@pytest.mark.parametrize("compensate", ["mean", "least_squares"])
@pytest.mark.parametrize("behind", ["norm", "norm and more", "nothing"])
def test_without_a_bias_the_constant_goes_to_the_norm_behind_or_to_a_new_bias(behind: str, compensate: str) -> None:
    model = unit_gain(Behind(behind))
    data = values(40, 2, 6, 6, out=3)
    pruned = prune(model, data, only="first", compensate=compensate)
    second, norm = pruned.model.second, pruned.model.norm
    if behind == "norm":
        assert second.bias is None
        assert bits(norm.running_mean) != bits(model.norm.running_mean)
        assert bits(norm.running_var) == bits(model.norm.running_var)
    else:
        assert second.bias.shape == (5,)
        assert bits(norm.running_mean) == bits(model.norm.running_mean)
        assert any("second.bias" in note for note in pruned.report.notes)
    assert model.second.bias is None
    assert pruned.report.difference <= 1e-10
    if compensate == "least_squares":
        expected = least_squares(model, {"second": removed(pruned, "first")}, *parts(data), FIT_DAMPINGS)
        new = torch.randn(7, 2, 6, 6, dtype=torch.float64)
        torch.testing.assert_close(pruned.model(new), expected(new), rtol=0, atol=1e-7)


class SharedBias(nn.Module):
    """Two layers with one bias between them, of which only one reads units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.reader, self.other = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(3, 4)
        self.other.bias = self.reader.bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.reader(torch.tanh(self.first(x))), self.other(x)


@pytest.mark.parametrize("compensate", ["mean", "least_squares"])
def test_a_bias_that_others_read_too_is_not_changed_under_their_hands(compensate: str) -> None:
    model = unit_gain(SharedBias())
    data = values(40, 3, out=4)
    pruned = prune(model, data, compensate=compensate, loss=lambda outputs, batch: outputs[0].sum(1))
    assert pruned.model.reader.bias is pruned.model.other.bias
    new = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new)[1], model(new)[1], rtol=1e-12, atol=1e-12)


class SharedNorm(nn.Module):
    """A batch norm that stands behind the consumer and elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 4, bias=False)
        self.other, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(self.second(torch.sigmoid(self.first(x)))), self.norm(self.other(x))


@pytest.mark.parametrize("compensate", ["mean", "least_squares"])
def test_a_norm_that_is_used_elsewhere_too_is_left_as_it_is(compensate: str) -> None:
    model = unit_gain(SharedNorm())
    data = values(40, 3, out=4)
    pruned = prune(model, data, compensate=compensate, loss=lambda outputs, batch: outputs[0].sum(1))
    new = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new)[1], model(new)[1], rtol=1e-12, atol=1e-12)


class Tied(nn.Module):
    """The weight that reads the units is used elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.reader, self.again = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(6, 5)
        self.again.weight = self.reader.weight
        self.side, self.last = nn.Linear(3, 6), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        gap = torch.tanh(self.first(x))
        return self.last(torch.relu(self.reader(gap)) + torch.sin(self.again(gap + self.side(x))))


def test_a_weight_that_is_used_twice_is_regressed_on_both_uses() -> None:
    model = unit_gain(Tied())
    data = values(60, 3)
    pruned = prune(model, data, only="first")
    assert pruned.model.again.weight is pruned.model.reader.weight
    assert pruned.report.difference <= 1e-10


class UsedElsewhere(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.shift, self.last = nn.Linear(3, 6), nn.Parameter(torch.zeros(3)), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.linear(torch.relu(self.encode(x)), self.encode.weight.t(), self.shift))


def test_a_weight_that_makes_the_units_it_reads_is_left_and_the_report_says_so() -> None:
    model = unit_gain(UsedElsewhere())
    pruned = prune(model, values(60, 3))
    assert any("encode.weight" in note and "not compensated" in note for note in pruned.report.notes)
    gone = removed(pruned, "encode")
    kept = [k for k in range(6) if k not in gone]
    assert torch.equal(pruned.model.encode.weight, model.encode.weight[kept])
    assert pruned.report.difference <= 1e-10


class Products(nn.Module):
    """Units that are read by products with parameters of other ranks and orders."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.first = how, nn.Linear(3, 6)
        shape = {
            "x @ w": (6, 4), "x @ w.T": (4, 6), "broadcast": (1, 6, 4), "einsum": (6, 4), "heads": (2, 6, 4),
            "addmm": (6, 4), "vector": (6,),
        }[how]  # fmt: skip
        self.w = nn.Parameter(torch.randn(shape))
        self.b = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        match self.how:
            case "x @ w":
                return x @ self.w + self.b
            case "x @ w.T":
                return x @ self.w.T
            case "broadcast":
                return torch.matmul(x[None], self.w)[0]
            case "einsum":
                return torch.einsum("ni,io->no", x, self.w)
            case "heads":
                return torch.matmul(x, self.w).sum(0)
            case "addmm":
                return torch.addmm(self.b, x, self.w)
        return (x @ self.w)[:, None].expand(-1, 4)


@pytest.mark.parametrize("how", ["x @ w", "x @ w.T", "broadcast", "einsum", "heads", "addmm", "vector"])
@pytest.mark.parametrize("compensate", ["zero", "mean", "least_squares"])
def test_products_are_compensated_rightly_or_left_with_a_note(how: str, compensate: str) -> None:
    model = unit_gain(Products(how))
    data = values(60, 3, out=4)
    pruned = prune(model, data, compensate=compensate, only="first")
    gone = removed(pruned, "first")
    kept = [k for k in range(6) if k not in gone]
    assert pruned.report.difference <= 1e-10
    if compensate == "zero" or any("not compensated" in note for note in pruned.report.notes):
        axis = list(model.w.shape).index(6)
        assert torch.equal(pruned.model.w, model.w.index_select(axis, torch.tensor(kept)))
        return
    inputs = torch.cat([inputs for inputs, _ in parts(data)[0]])
    with torch.no_grad():
        target, made = model(inputs), pruned.model(inputs)
        columns = torch.cat([torch.tanh(model.first(inputs))[:, kept], torch.ones(len(inputs), 1).double()], 1)
        best = columns @ torch.linalg.lstsq(columns, target, driver="gelsd").solution
        model.first.register_forward_hook(lambda _, args, out: out.index_fill(1, torch.tensor(gone), 0.0))
        cut = model(inputs)
    floor, error, worst = (float((each - target).square().mean()) for each in (best, made, cut))
    assert floor <= error + 1e-12
    assert error < worst


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(3, 5), nn.Linear(3, 6), nn.Linear(14, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([torch.tanh(self.a(x)), x, torch.sin(self.b(x))], 1))


def test_a_consumer_of_several_groups_loses_the_columns_of_each() -> None:
    model = unit_gain(Concatenated())
    data = values(60, 3)
    pruned = prune(model, data)
    dead = [*removed(pruned, "a"), *(8 + k for k in removed(pruned, "b"))]
    expected = least_squares(model, {"last": dead}, *parts(data), FIT_DAMPINGS)
    new = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), expected(new), rtol=1e-6, atol=1e-8)


def test_both_consumers_of_a_group_are_compensated() -> None:
    model = unit_gain(TwoReaders())
    data = values(60, 3)
    pruned = prune(model, data)
    dead = removed(pruned, "hidden")
    expected = least_squares(model, {"left": dead, "right": dead}, *parts(data), FIT_DAMPINGS)
    new = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), expected(new), rtol=1e-6, atol=1e-8)


def test_least_squares_does_better_than_the_mean_and_the_mean_than_nothing() -> None:
    model, data = unit_gain(Flat()), classes(400, 2, 6, 6, count=4)
    inputs = data[0][0]
    data = [(inputs, model(inputs).detach())]
    losses = {
        method: prune(model, data, compensate=method).report.after.loss for method in ("zero", "mean", "least_squares")
    }
    assert losses["least_squares"] < losses["mean"] < losses["zero"]


def test_units_that_nothing_reads_can_go() -> None:
    class Unread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x))[:, :4])

    model = unit_gain(Unread())
    pruned = prune(model, values(40, 3))
    assert {group.name for group in pruned.report.groups} == {"first#2"}
    assert pruned.model.first.out_features == 6
    new = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), model(new), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", each_of([40, 64, 256], [40, 256]))
def test_few_samples_do_not_blow_up_and_are_told(rows: int) -> None:
    """Behind 200 hidden units, of which half stay: no worse than taking them off without compensation."""
    torch.manual_seed(0)
    x = torch.randn(3000, 12)
    t = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > x[:, 3]).long()
    model = nn.Sequential(nn.Linear(12, 200), nn.ReLU(), nn.Linear(200, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:2000]), t[:2000]).backward()
        optimizer.step()
    test = [(x[2000:], t[2000:])]
    found = {
        compensate: dh.prune(
            model,
            [(x[:rows], t[:rows])],
            loss="cross_entropy",
            units=0.5,
            compensate=compensate,
            test=test,
            curve=0,
        ).report
        for compensate in ("least_squares", "zero")
    }
    assert found["least_squares"].after.loss < found["zero"].after.loss
    told = [note for note in found["least_squares"].notes if "2.weight was fitted from" in note and "rank-def" in note]
    assert len(told) == (0.8 * rows < 200)
