"""Second-order criteria against the hand-worked case, dense Hessians by autograd, and plain loops of the recursion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.errors import DataError, LossError
from deadhead.gates.state import PrunedState
from deadhead.scores.criterion import Question, ask
from support.networks import Flat, Residual, TwoReaders, classes, mlp, unit_gain, values
from support.second_order import Data, Scores, assert_same, score, seen

# -- a case worked out by hand ---------------------------------------------------------------------------------------


def sigmoids(*weights: list[list[float]]) -> tuple[nn.Sequential, Data]:
    """Sigmoid layers with these weights and no biases; one row, x = (1, 0.5), t = 1."""
    layers: list[nn.Module] = []
    for weight in weights:
        matrix = torch.tensor(weight, dtype=torch.float64)
        layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(matrix)
        layers += [layer, nn.Sigmoid()]
    return nn.Sequential(*layers), [(torch.tensor([[1.0, 0.5]]).double(), torch.ones(1, 1).double())]


def digits(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def assert_digits(found: Tensor, *numbers: float) -> None:
    torch.testing.assert_close(found.flatten(), digits(*numbers), rtol=0, atol=1e-9)


HIDDEN, OUT = [[1.0, 2.0], [-1.0, 1.0]], [[1.5, -2.0]]


def test_the_hand_worked_case_gives_every_number_of_its_table() -> None:
    model, data = sigmoids(HIDDEN, OUT)
    a, g, h = seen(model, data, "squared_error")["0"]
    assert_digits(a, 0.8807970780, 0.3775406688)
    assert_digits(g, -0.1254755691, 0.1673007587)
    assert_digits(h, 0.1719513902, 0.3056913603)
    assert_digits(score(model, data, "taylor1", "squared_error")["0"], 0.1105185146, -0.0631628403)
    assert_digits(score(model, data, "taylor2", "squared_error")["0"], 0.1772187591, -0.0413766823)
    assert_digits(score(model, data, "taylor2_exact", "squared_error")["0"], 0.1772187591, -0.0413766823)
    assert_digits(score(model, data, "oracle", "squared_error")["0"], 0.1658232772, -0.0433902121)


def test_second_derivatives_by_a_net_input_follow_equation_73_and_not_71() -> None:
    """With an identity layer between net input and sigmoid, the recursion shows d2E/dx2 itself."""
    model, data = sigmoids(HIDDEN, OUT)
    identity = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        identity.weight.copy_(torch.eye(2))
    _, g, h = seen(nn.Sequential(model[0], identity, *model[1:]), data, "squared_error")["0"]
    assert_digits(g, -0.0131741299, 0.0393162994)
    assert_digits(h, 0.0119288728, 0.0265116342)


def test_one_layer_more_shows_what_the_recursion_leaves_out() -> None:
    model, data = sigmoids(HIDDEN, [[1.0, -1.0], [2.0, 1.0]], OUT)
    o, g, h = seen(model, data, "squared_error")["0"]
    assert_digits(g, 0.0036406846, 0.0794287873)
    assert_digits(h, -0.0787575699, -0.0115545207)
    slopes, exact = digits(0.0036406846, 0.0794287873), digits(-0.0746805470, -0.0135930321)
    recursed = -o * slopes + 0.5 * o.square() * digits(-0.0787575699, -0.0115545207)
    assert_digits(score(model, data, "taylor2", "squared_error")["0"], *recursed.flatten().tolist())
    truly = -o * slopes + 0.5 * o.square() * exact
    assert_digits(score(model, data, "taylor2_exact", "squared_error")["0"], *truly.flatten().tolist())


# -- exact, against dense Hessians by autograd -----------------------------------------------------------------------


def opened(value: Tensor, alpha: Tensor, axis: int, reference: str, columns: int = 1) -> Tensor:
    """`r + alpha (a - r)` along an axis, each alpha for so many columns."""
    shape = [1] * value.dim()
    shape[axis] = value.shape[axis]
    axes = [each for each in range(value.dim()) if each != axis % value.dim()]
    r = value.mean(axes, keepdim=True).detach() if reference == "mean" else torch.zeros(shape).to(value)
    return r + alpha.repeat_interleave(columns).reshape(shape) * (value - r)


def gated_mlp(model: nn.Sequential, x: Tensor, alphas: Sequence[Tensor], reference: str) -> Tensor:
    a = opened(torch.tanh(model[0](x)), alphas[0], 1, reference)
    return model[4](opened(torch.tanh(model[2](a)), alphas[1], 1, reference))


def gated_flat(model: Flat, x: Tensor, alphas: Sequence[Tensor], reference: str) -> Tensor:
    x = opened(F.relu(model.norm(model.conv1(x))), alphas[0], 1, reference)
    x = F.max_pool2d(torch.tanh(model.conv2(x)), 2).flatten(1)
    x = opened(x, alphas[1], 1, reference, 4)
    return model.fc2(opened(torch.sigmoid(model.fc1(x)), alphas[2], 1, reference))


def gated_readers(model: TwoReaders, x: Tensor, alphas: Sequence[Tensor], reference: str) -> Tensor:
    x = torch.tanh(model.hidden(x))
    left, right = opened(x, alphas[0], 1, reference), opened(x**2, alphas[0], 1, reference)
    return model.left(left) + torch.sin(model.right(right))


Gated = Callable[[nn.Module, Tensor, Sequence[Tensor], str], Tensor]
DENSE: dict[str, tuple[Callable[[], nn.Module], Gated, Data, dict[str, int]]] = {
    "mlp": (lambda: mlp(3, 5, 4, 3), gated_mlp, classes(12, 3), {"0": 5, "2": 4}),  # type: ignore[dict-item]
    "convolutions": (
        lambda: unit_gain(Flat()),
        gated_flat,  # type: ignore[dict-item]
        classes(7, 2, 6, 6, count=4),
        {"conv1": 6, "conv2": 5, "fc1": 7},
    ),
    "several consumers": (
        lambda: unit_gain(TwoReaders()),
        gated_readers,  # type: ignore[dict-item]
        classes(9, 3, count=2),
        {"hidden": 6},
    ),
}
EVERY = pytest.mark.parametrize("name", DENSE)
REFERENCES = pytest.mark.parametrize("reference", ["zero", "mean"])


def quadratic(
    sizes: dict[str, int], value: Callable[[Sequence[Tensor]], Tensor], curve: Callable[[Tensor], Tensor] | None = None
) -> Scores:
    """`-dL/dalpha + 1/2 d2L/dalpha2` of a function of all gates, by a dense Hessian, or `curve` of the gates for it."""
    flat = torch.ones(sum(sizes.values()), dtype=torch.float64)

    def of(flat: Tensor) -> Tensor:
        return value(flat.split(list(sizes.values())))

    slope = torch.autograd.functional.jacobian(of, flat)
    second = torch.autograd.functional.hessian(of, flat).diagonal() if curve is None else curve(flat)
    return dict(zip(sizes, (0.5 * second - slope).split(list(sizes.values())), strict=True))


@EVERY
@REFERENCES
def test_exact_is_the_diagonal_of_the_dense_hessian(name: str, reference: str) -> None:
    make, gated, data, sizes = DENSE[name]
    model, (x, t) = make(), data[0]
    expected = quadratic(sizes, lambda alphas: F.cross_entropy(gated(model, x, alphas, reference), t))
    found = score(model, data, "taylor2_exact", reference=reference)
    assert list(found) == list(expected)
    for group, each in expected.items():
        assert_same(found[group], each)
        assert (score(model, data, "taylor1", reference=reference)[group] - each).abs().max() > 1e-3


@EVERY
@REFERENCES
@pytest.mark.parametrize("loss", ["cross_entropy", "callable"])
def test_gauss_newton_is_the_dense_product_where_outputs_are_few(name: str, reference: str, loss: str) -> None:
    make, gated, data, sizes = DENSE[name]
    model, (x, t) = make(), data[0]
    plain: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy if loss == "cross_entropy" else saddle

    def outputs(flat: Tensor) -> Tensor:
        return gated(model, x, flat.split(list(sizes.values())), reference)

    def gauss_newton(flat: Tensor) -> Tensor:
        jacobian, middle = torch.autograd.functional.jacobian(outputs, flat), outputs(flat).detach()
        total = torch.zeros_like(flat)
        for n in range(len(x)):
            hessian = torch.autograd.functional.hessian(lambda o, n=n: plain(o[None], t[n : n + 1]), middle[n])
            total += torch.einsum("ik,ij,jk->k", jacobian[n], hessian, jacobian[n])
        return total / len(x)

    expected = quadratic(sizes, lambda a: plain(gated(model, x, a, reference), t), gauss_newton)
    asked = "cross_entropy" if loss == "cross_entropy" else saddle_rows
    found = score(model, data, "taylor2_gauss_newton", asked, reference=reference)
    for group, each in expected.items():
        assert_same(found[group], each)


def saddle_rows(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A loss that couples its outputs and curves both ways."""
    return outputs[:, 0] * outputs[:, 1] + outputs.prod(1) + torch.sin(outputs.sum(1)) + 0.1 * batch[1]


def saddle(outputs: Tensor, targets: Tensor) -> Tensor:
    return saddle_rows(outputs, (outputs, targets)).mean()


def wide(rows: int) -> tuple[nn.Module, Data]:
    return mlp(3, 4, 20), values(rows, 3, out=20)


def test_gauss_newton_of_many_outputs_is_an_estimate_of_the_dense_product() -> None:
    model, data = wide(2000)
    (x, t), first = data[0], score(*wide(2000), "taylor1", "squared_error")["0"]
    a = torch.tanh(model[0](x)).detach()
    weight = model[2].weight.detach()
    curve = (a.square().mean(0)) * weight.square().sum(0)  # J = W diag(a), H = 1
    found = score(model, data, "taylor2_gauss_newton", "squared_error")["0"] - first
    torch.testing.assert_close(found, 0.5 * curve, rtol=0.12, atol=0)
    assert_same(first, ((a * ((model(x) - t).detach() @ weight)).mean(0)).neg())


def test_gauss_newton_draws_by_the_seed() -> None:
    model, data = wide(50)
    first, again, other = (
        score(model, data, "taylor2_gauss_newton", "squared_error", seed=seed)["0"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# -- claims about all of them ----------------------------------------------------------------------------------------

ALL = pytest.mark.parametrize("criterion", ["taylor2", "taylor2_exact", "taylor2_gauss_newton"])


@ALL
@REFERENCES
def test_scores_do_not_depend_on_how_rows_are_batched(criterion: str, reference: str) -> None:
    model = unit_gain(Residual())
    whole, parts = (
        score(model, classes(10, 2, 5, 5, batch=batch), criterion, reference=reference) for batch in (None, 3)
    )
    for name, each in whole.items():
        assert_same(parts[name], each)


@ALL
@REFERENCES
def test_second_order_is_the_oracle_where_the_loss_is_quadratic_in_the_gates(criterion: str, reference: str) -> None:
    model, data = mlp(3, 5, 2), values(12, 3)
    found, truth, first = (
        score(model, data, each, "squared_error", reference=reference)["0"] for each in (criterion, "oracle", "taylor1")
    )
    assert_same(found, truth)
    assert (first - truth).abs().max() > 0.1 * truth.abs().max()


@ALL
def test_units_that_are_gone_already_stay_gone(criterion: str) -> None:
    model, data = mlp(3, 5, 4, 3), classes(12, 3)
    network, batches = dh.trace(model, data[0][0]), read(data)
    question = Question(PrunedState.of(network), network.groups, batches, as_loss("cross_entropy"))
    closed = {"0": digits(1, 0, 1, 1, 0), "2": digits(1, 1, 0, 1)}
    found = ask(replace(question, state=question.state.closing(closed)), criterion)
    smaller = mlp(3, 3, 3, 3)
    with torch.no_grad():
        for place, rows, columns in ((0, [0, 2, 3], [0, 1, 2]), (2, [0, 1, 3], [0, 2, 3]), (4, [0, 1, 2], [0, 1, 3])):
            smaller[place].weight.copy_(model[place].weight[rows][:, columns])
            smaller[place].bias.copy_(model[place].bias[rows])
    expected = score(smaller, data, criterion)
    assert_same(found["0"][[0, 2, 3]], expected["0"])
    assert_same(found["2"][[0, 1, 3]], expected["2"])
    assert not found["0"][[1, 4]].any()
    assert not found["2"][2]


@ALL
def test_units_that_are_half_gone_count_half(criterion: str) -> None:
    model, data, halves = mlp(3, 5, 4, 3), classes(12, 3), digits(1, 0.5, 0.3, 1)
    network = dh.trace(model, data[0][0])
    state = PrunedState.of(network).closing({"2": halves})
    question = Question(state, network.groups, read(data), as_loss("cross_entropy"))
    found = ask(question, criterion)
    with torch.no_grad():
        model[4].weight.mul_(halves)
    expected = score(model, data, criterion)
    assert_same(found["0"], expected["0"])
    assert_same(found["2"], expected["2"])


@ALL
def test_the_weights_and_constants_of_the_question_are_taken(criterion: str) -> None:
    model, data = mlp(3, 5, 3), classes(12, 3)
    network, batches = dh.trace(model, data[0][0]), read(data)
    other = mlp(3, 5, 3, seed=1)
    state = PrunedState(network, tensors=dict(other.state_dict()))
    asked = Question(state, network.groups, batches, as_loss("cross_entropy"))
    assert_same(ask(asked, criterion)["0"], score(other, data, criterion)["0"])
    constant = digits(0.5, -1.0, 2.0)
    with torch.no_grad():
        other[2].bias.add_(constant)
    tensors = {**state.tensors, "2.bias": other[2].bias - constant}
    added = ask(replace(asked, state=PrunedState(network, {}, tensors, {"2.weight": constant})), criterion)
    assert_same(added["0"], score(other, data, criterion)["0"])


def test_float32_agrees_with_float64() -> None:
    model, data = unit_gain(Residual()), classes(10, 2, 5, 5)
    exact = score(model, data, "taylor2")
    single = score(model.float(), [(x.float(), t) for x, t in data], "taylor2")
    for name, each in exact.items():
        assert (single[name] - each).abs().max() < 1e-5 * each.abs().max()


def test_the_model_is_left_as_it_was(unharmed: object) -> None:
    model, data = unit_gain(Flat()).train(), classes(6, 2, 6, 6, count=4)
    for criterion in ("taylor2", "taylor2_exact", "taylor2_gauss_newton"):
        with unharmed(model, data[0][0]):  # type: ignore[operator]
            score(model, data, criterion)


# -- refusals --------------------------------------------------------------------------------------------------------


class Between(nn.Module):
    """Two linear layers and a function of the hidden units between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.first, self.middle, self.last = function, nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.middle(torch.tanh(self.first(x)))))


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "mul": lambda x: x * torch.sigmoid(x),
    "div": lambda x: x / (1 + x.square()),
    "softmax": lambda x: torch.softmax(x, 1),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "logsumexp": lambda x: x + torch.logsumexp(x, 1, keepdim=True),
    "matmul": lambda x: (x[:, None] @ x[:, :, None])[:, 0] + x,
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(
        x[:, None, None], x[:, None, None], x[:, None, None]
    )[:, 0, 0],
}


@pytest.mark.parametrize("op", REFUSED)
def test_an_op_without_a_rule_is_refused_by_name(op: str) -> None:
    model, data = unit_gain(Between(REFUSED[op])), classes(8, 3)
    with pytest.raises(DataError, match=rf"does not go through {op}\b.*choose"):
        score(model, data, "taylor2")
    score(model, data, "taylor2_exact")
    score(model, data, "taylor2_gauss_newton")


def test_a_refusal_names_the_module() -> None:
    model = unit_gain(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)))
    with pytest.raises(DataError, match="layer_norm in 3"):
        score(model, classes(8, 3), "taylor2")


def test_what_lies_before_the_gates_is_never_refused() -> None:
    layers = [nn.LayerNorm(3), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)]
    model, data = unit_gain(nn.Sequential(*layers)), classes(8, 3)
    normed = [(model[0](x).detach(), t) for x, t in data]  # type: ignore[index]
    assert isinstance(model, nn.Sequential)
    assert_same(score(model, data, "taylor2")["1"], score(nn.Sequential(*model[1:]), normed, "taylor2")["0"])


def test_a_loss_without_predictive_distribution_is_refused_where_outputs_are_many() -> None:
    model, data = wide(8)
    with pytest.raises(LossError, match="no known predictive distribution"):
        score(model, data, "taylor2_gauss_newton", lambda outputs, batch: (outputs - batch[1]).abs().sum(1))


def test_too_many_outputs_for_a_loss_of_unknown_shape_are_refused() -> None:
    model, data = mlp(3, 4, 4100), values(4, 3, out=4100)
    with pytest.raises(DataError, match="more than 4,096"):
        score(model, data, "taylor2", lambda outputs, batch: (outputs - batch[1]).square().sum(1))
    assert score(model, data, "taylor2", "squared_error")["0"].shape == (4,)


def test_a_loss_that_cannot_be_differentiated_twice_is_refused() -> None:
    def odd(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.ctc_loss(
            outputs.log_softmax(1)[None].expand(3, -1, -1), batch[1][:, None].clamp(min=1), [3] * 8, [1] * 8,
            reduction="none",
        )  # fmt: skip

    model, data = mlp(3, 4, 3), classes(8, 3)
    for criterion in ("taylor2", "taylor2_exact"):
        with pytest.raises(DataError, match=r"second derivative of .*ctc_loss"):
            score(model, data, criterion, odd)
