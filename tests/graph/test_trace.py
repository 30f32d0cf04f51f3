"""Tracing leaves the module as it was, and says what it cannot follow, with file and line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from support.networks import Flat, classes, mlp, unit_gain
from support.snapshot import Unharmed, bits

pytestmark = pytest.mark.traced_anew


def everything(model: nn.Module, data: list[Any], **options: Any) -> None:
    """Trace, replay with any number of rows, and score."""
    dh.score(model, data, loss="cross_entropy", **options)


class Noting(nn.Module):
    """Its forward writes attributes, and its submodules stand in different modes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(5, 3)
        self.seen: Any = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen = self.norm(self.first(x))
        self.late = 1
        return self.last(self.drop(self.seen))


def noting() -> Noting:
    model = Noting().double()
    model.train()
    model.norm.eval()
    model.last.weight.requires_grad_(False)
    model(torch.randn(4, 3).double()).sum().backward()
    del model.late
    return model


@pytest.mark.parametrize("mode", [True, False])
def test_tracing_leaves_modes_buffers_gradients_attributes_and_random_numbers(mode: bool, unharmed: Unharmed) -> None:
    model = noting()
    model.drop.train(mode)
    inputs = torch.randn(4, 3).double()
    with unharmed(model, inputs):
        network = dh.trace(model, inputs)
        network.replay(inputs)
    assert [group.size for group in network.groups] == [5]


def test_scoring_leaves_modes_buffers_gradients_attributes_and_random_numbers(unharmed: Unharmed) -> None:
    model = noting()
    data = classes(12, 3)
    with unharmed(model, data[0][0]):
        for criterion in ("mrs", "mrp", "taylor1", "oracle", "magnitude"):
            everything(model, data, criterion=criterion)


def test_hooks_are_called_afterwards_and_are_part_of_forward() -> None:
    model = mlp(3, 5, 2)
    calls = []
    model[0].register_forward_hook(lambda module, args, output: calls.append(type(output)))
    model[2].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    inputs = torch.randn(4, 3).double()
    network = dh.trace(model, inputs)
    before = len(calls)
    expected = model(inputs)
    assert len(calls) == before + 1
    assert calls[-1] is Tensor
    torch.testing.assert_close(network.replay(inputs), expected, rtol=1e-14, atol=1e-14)


def test_the_graph_is_the_module_at_any_number_of_rows_to_the_bit() -> None:
    model = unit_gain(Flat())
    network = dh.trace(model, torch.randn(3, 2, 6, 6).double())
    for rows in (1, 2, 3, 7, 16):
        inputs = torch.randn(rows, 2, 6, 6).double()
        assert bits(network.replay(inputs)) == bits(model(inputs))
    assert network.difference == 0.0


def test_one_row_is_enough_as_an_example() -> None:
    model = unit_gain(Flat())
    network = dh.trace(model, torch.randn(1, 2, 6, 6).double())
    inputs = torch.randn(5, 2, 6, 6).double()
    assert bits(network.replay(inputs)) == bits(model(inputs))
    assert [group.size for group in network.groups] == [6, 5, 7]


def test_changed_weights_are_read_at_every_replay() -> None:
    model = mlp(3, 5, 2)
    inputs = torch.randn(4, 3).double()
    network = dh.trace(model, inputs)
    network.replay(inputs)
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert bits(network.replay(inputs)) == bits(model(inputs))


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, *, other: Tensor | None = None, scale: float = 1.0) -> dict[str, Any]:
        hidden = torch.relu(self.a(x))
        if other is not None:
            hidden = hidden + scale * self.b(other)
        return {"logits": self.out(hidden), "hidden": (hidden,), "note": "text"}


def test_keyword_inputs_and_outputs_in_containers_go_through() -> None:
    model = unit_gain(Keywords())
    inputs = {"x": torch.randn(3, 3).double(), "other": torch.randn(3, 2).double(), "scale": 0.5}
    network = dh.trace(model, inputs)
    found, expected = network.replay(inputs), model(**inputs)
    assert set(found) == {"logits", "hidden", "note"}
    assert found["note"] == "text"
    assert bits(found["logits"]) == bits(expected["logits"])
    assert isinstance(found["hidden"], tuple)
    assert not network.groups, "an output fixes what lies in it"


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = 2 * x
        return self.last(self.first(x))


def test_a_tensor_in_an_if_is_refused_with_file_and_line(unharmed: Unharmed) -> None:
    model = Decides()
    inputs = torch.randn(2, 3)
    source = Path(__file__).read_text().splitlines()
    line = 1 + next(i for i, text in enumerate(source) if text.strip() == "if x.sum() > 0:")
    with unharmed(model, inputs), pytest.raises(dh.TraceError) as caught:
        dh.trace(model, inputs)
    message = str(caught.value)
    assert "Decides" in message
    assert __file__ in message
    assert f"line {line}" in message
    assert "if x.sum() > 0" in message
    assert "\n" not in message


@pytest.mark.parametrize("folder", ["deadhead", "torch", "plain"])
def test_the_line_is_named_wherever_the_users_file_lies(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "mine.py"
    path.parent.mkdir()
    path.write_text(
        "from torch import nn\n"
        "class Mine(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if bool(x.max() > 3) else -x\n"
    )
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(dh.TraceError, match=r"mine\.py, line 4"):
        dh.trace(module.Mine(), torch.randn(2, 3))


class Numpy(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.from_numpy(self.first(x).numpy()))


def test_numpy_in_forward_is_refused_with_its_line(unharmed: Unharmed) -> None:
    model = Numpy()
    inputs = torch.randn(2, 3)
    with unharmed(model), pytest.raises(dh.TraceError, match=r"test_trace\.py, line \d+"):
        dh.trace(model, inputs)


class BakedIn(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).reshape(int(x.size(0)), 5))


class LiteralBatch(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).reshape(6, 5))


class OneRowIsSpecial(Decides):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(3 * hidden if x.shape[0] == 1 else hidden)


class LargeIsSpecial(Decides):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(3 * hidden if x.shape[0] > 4 else hidden)


@pytest.mark.parametrize("kind", [BakedIn, LiteralBatch, OneRowIsSpecial, LargeIsSpecial])
def test_a_forward_that_depends_on_the_number_of_rows_is_refused(kind: type[nn.Module], unharmed: Unharmed) -> None:
    model = kind().double()
    with unharmed(model), pytest.raises(dh.TraceError, match=r"samples|batch") as caught:
        everything(model, classes(6, 3))
    assert kind.__name__ in str(caught.value)


class Raises(Decides):
    """Batch norm in train mode raises on a single row."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.batch_norm(self.first(x), None, None, training=True))


def test_a_forward_that_fails_on_some_number_of_rows_is_refused_in_a_sentence(unharmed: Unharmed) -> None:
    model = Raises().double()
    with unharmed(model), pytest.raises(dh.TraceError, match="fails on 1 sample"):
        everything(model, classes(6, 3))


class Random(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.first(x), 0.5, training=True))


def test_a_forward_that_is_random_in_evaluation_mode_is_refused(unharmed: Unharmed) -> None:
    model = Random().double()
    with unharmed(model), pytest.raises(dh.TraceError, match="random"):
        everything(model, classes(6, 3))


def test_lazy_modules_are_refused_with_a_remedy(unharmed: Unharmed) -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(dh.TraceError, match=r"0\.weight is lazy.*run the model once"):
        dh.trace(model, torch.randn(2, 3))
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def test_torchscript_is_refused(unharmed: Unharmed) -> None:
    model = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    with pytest.raises(dh.TraceError, match=r"TorchScript.*eager"):
        dh.trace(model, torch.randn(2, 3))


def test_a_scripted_submodule_is_refused_and_left_as_it_was() -> None:
    inner = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model = nn.Sequential(nn.Linear(3, 4), inner, nn.Linear(4, 2)).train()
    inputs = torch.randn(2, 3)
    expected = model(inputs)
    with pytest.raises(dh.TraceError):
        everything(model, [(torch.randn(6, 3), torch.randint(2, (6,)))])
    assert bits(model(inputs)) == bits(expected)
    assert inner.training


def test_inputs_without_a_tensor_are_refused(unharmed: Unharmed) -> None:
    model = mlp(3, 4, 2)
    with unharmed(model), pytest.raises(dh.TraceError, match="no tensor"):
        dh.trace(model, {"x": 3})


@pytest.mark.parametrize("thing", [len, None, "model", torch.zeros(2)])
def test_what_is_no_module_is_refused(thing: Any) -> None:
    with pytest.raises(dh.TraceError, match="Module"):
        dh.trace(thing, torch.zeros(2, 3))


class Text(Decides):
    def forward(self, x: Tensor) -> Any:
        self.first(x)
        return "done"


def test_a_model_whose_output_holds_no_tensor_is_refused(unharmed: Unharmed) -> None:
    model = Text()
    inputs = torch.randn(2, 3)
    with unharmed(model), pytest.raises(dh.TraceError, match="Text returns no tensor"):
        dh.trace(model, inputs)


def test_inputs_that_the_model_cannot_take_are_refused_in_a_sentence(unharmed: Unharmed) -> None:
    model, inputs = mlp(3, 4, 2), torch.randn(2, 7).double()
    with unharmed(model), pytest.raises(dh.TraceError, match="Sequential cannot be traced"):
        dh.trace(model, inputs)


class InAListOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 3)
        self.hidden = [nn.Linear(5, 5)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden[0](torch.relu(self.first(x)))))


def test_a_module_in_a_python_list_is_named_and_fixed() -> None:
    model = InAListOnly()
    network = dh.trace(model, torch.randn(2, 3))
    assert not network.groups, "the layer in the list reads the first and feeds the last"
    assert "hidden" in " ".join([*network.fixed, *network.fixed.values()])


class Adds(Decides):
    """Writes to the tensor that it was given."""

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1.0)
        return self.last(torch.tanh(self.first(x)))


def test_a_forward_that_writes_to_its_input_never_reaches_the_users_data(unharmed: Unharmed) -> None:
    model = unit_gain(Adds())
    data = classes(12, 3)
    kept = data[0][0].clone()
    with unharmed(model):
        found = dh.score(model, data, loss="cross_entropy", criterion="oracle")["first"]
    assert bits(data[0][0]) == bits(kept)

    def loss(closed: int | None) -> Tensor:
        hidden = torch.tanh(model.first(kept + 1))
        if closed is not None:
            hidden = hidden.index_fill(1, torch.tensor([closed]), 0.0)
        return F.cross_entropy(model.last(hidden), data[0][1])

    with torch.no_grad():
        expected = torch.stack([loss(unit) - loss(None) for unit in range(5)])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


class WithoutGradients(Decides):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = torch.relu(self.first(x))
        return self.last(hidden)


class Autocast(Decides):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize("kind", [WithoutGradients, Autocast])
def test_regions_without_gradients_and_of_autocast_are_part_of_the_graph(kind: type[nn.Module]) -> None:
    model = unit_gain(kind())
    inputs = torch.randn(4, 3).double()
    network = dh.trace(model, inputs)
    assert bits(network.replay(inputs)) == bits(model(inputs))
    assert [group.size for group in network.groups] == [5]
