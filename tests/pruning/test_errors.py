"""Every refusal that the design promises: one sentence with thing, reason and remedy, and nothing harmed."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from support.networks import Residual, classes, mlp, unit_gain
from support.quick import each_of
from support.snapshot import Unharmed

GOOD = classes(24, 3)


class Shell(nn.Module):
    """Two layers in train mode with a frozen parameter, a hook, gradients, buffers; `body` stands between them."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.body = body
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.body(self, x)


def plain(self: Shell, x: Tensor) -> Tensor:
    return self.last(torch.tanh(self.norm(self.first(x))))


def heard(module: nn.Module, args: Any, output: Any) -> None:
    """A hook of the user's."""


def lived_in(body: Callable[..., Any] = plain) -> Shell:
    """A model that was trained for a step: nothing about it is as freshly made."""
    model = Shell(plain).double().train()
    model.norm.eval()
    model.last.weight.requires_grad_(False)
    model.first.register_forward_hook(heard)
    model.first.weight.register_hook(lambda gradient: gradient)
    F.cross_entropy(model(GOOD[0][0]), GOOD[0][1]).backward()
    model.body = body
    return model


def data_dependent(self: Shell, x: Tensor) -> Tensor:
    hidden = self.norm(self.first(x))
    if hidden.max() > 100:
        hidden = hidden / 2
    return self.last(hidden)


def to_numpy(self: Shell, x: Tensor) -> Tensor:
    return self.last(torch.from_numpy(self.norm(self.first(x)).numpy()))


def counts_samples(self: Shell, x: Tensor) -> Tensor:
    return self.last(self.norm(self.first(x)).reshape(24, 6))


def is_random(self: Shell, x: Tensor) -> Tensor:
    return self.last(F.dropout(self.norm(self.first(x)), 0.5, training=True))


def gives_text(self: Shell, x: Tensor) -> str:
    return "text"


def gives_nothing(self: Shell, x: Tensor) -> None:
    self.last(self.first(x))


def gives_nan(self: Shell, x: Tensor) -> Tensor:
    return self.last(torch.tanh(self.norm(self.first(x)))).abs().neg().log()


def mixes_all(self: Shell, x: Tensor) -> Tensor:
    return self.last(self.norm(self.first(x)).log_softmax(1))


def a_literal(self: Shell, x: Tensor) -> Tensor:
    return self.last(torch.tanh(self.norm(self.first(x))).reshape(-1, 6))


def packs(self: Shell, x: Tensor) -> Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(self.norm(self.first(x))[:, None], [1] * len(x), batch_first=True)
    return self.last(packed.data)


def raises(self: Shell, x: Tensor) -> Tensor:
    raise ValueError("the user's own reason")


def nan_inputs() -> list[Any]:
    inputs, targets = GOOD[0]
    return [(inputs.clone().fill_(float("nan")), targets)]


def single(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.sum()


def stops(outputs: Tensor, batch: Any) -> Tensor:
    raise KeyError("the user's own loss")


INPUTS, TARGETS = GOOD[0]
MAGNITUDE = {"criterion": "magnitude"}
Case = tuple[type[Exception], str, Callable[..., Any], dict[str, Any]]
CASES: dict[str, Case] = {
    # data
    "no data": (dh.DataError, "data holds no samples", plain, {"data": []}),
    "an exhausted iterator": (dh.DataError, "no samples.*one-shot", plain, {"data": iter([])}),
    "one sample": (dh.DataError, "single sample.*at least two", plain, {"data": [(INPUTS[:1], TARGETS[:1])]}),
    "a bare tensor": (dh.DataError, r"list: \[\(inputs, targets\)\]", plain, {"data": INPUTS}),
    "samples that do not match": (dh.DataError, "24 samples.*targets", plain, {"data": [(INPUTS, TARGETS[:3])]}),
    "three parts": (dh.DataError, "tuple of 3.*tuple of their own", plain, {"data": [(INPUTS, INPUTS, TARGETS)]}),
    "inputs that are not finite": (dh.DataError, "not finite.*clean", plain, {"data": nan_inputs()}),
    "batches of different structure": (
        dh.DataError, "traced with 1 input.*has 2", plain, {"data": [(INPUTS, TARGETS), ((INPUTS, INPUTS), TARGETS)]}
    ),
    "inputs of the wrong width": (dh.TraceError, "Shell cannot be traced", plain, {"data": classes(24, 5)}),
    "inputs of the wrong type": (dh.DeadheadError, "type", plain, {"data": [(INPUTS.float(), TARGETS)]}),
    "no test samples": (dh.DataError, "no samples", plain, {"test": []}),
    "a test sample that is not finite": (dh.DataError, "not finite", plain, {"test": nan_inputs()}),
    # loss
    "no such loss": (dh.LossError, "no loss 'nll'.*cross_entropy.*callable", plain, {"loss": "nll"}),
    "a loss for the whole batch": (dh.LossError, 'single.*per sample.*reduction="none"', plain, {"loss": single}),
    "a loss that is no tensor": (dh.LossError, "float.*tensor", plain, {"loss": lambda outputs, batch: 1.0}),
    "no targets": (dh.LossError, "needs targets", plain, {"data": [(INPUTS,)]}),
    "a class too many": (dh.DeadheadError, "class|target", plain, {"data": [(INPUTS, TARGETS + 1)]}),
    "a loss that is not finite": (dh.DeadheadError, "not finite|NaN", gives_nan, {}),
    "a loss that is not finite, by magnitude": (dh.DeadheadError, "not finite|NaN", gives_nan, MAGNITUDE),
    "no loss of the model's own": (dh.LossError, "own loss.*labels", plain, {"loss": "model", **MAGNITUDE}),
    "a loss that is not per sample for mrs": (
        dh.LossError, "mrs needs a loss for each", plain, {"loss": "model", "criterion": "mrs"}
    ),
    # budget
    "no budget": (dh.BudgetError, "exactly one budget", plain, {"units": None}),
    "two budgets": (dh.BudgetError, "exactly one budget.*units, params", plain, {"params": 0.5}),
    "out of range": (dh.BudgetError, r"units=1\.5.*fraction that remains, in \(0, 1\]", plain, {"units": 1.5}),
    "a group that would be emptied": (dh.BudgetError, "units=0 .*at least 1", plain, {"units": 0}),
    "a target out of reach": (dh.BudgetError, "smallest.*raise the budget", plain, {"units": None, "params": 2}),
    "nothing to remove": (dh.BudgetError, "none of the 6 units.*smaller", plain, {"units": 1.0}),
    # options
    "no such criterion": (dh.DataError, "no criterion 'best'.*the criteria are", plain, {"criterion": "best"}),
    "no such compensation": (dh.DataError, "no compensation 'x'.*compensations are", plain, {"compensate": "x"}),
    "no such group": (dh.DataError, "'conv' matches no group.*first", plain, {"only": ["conv"]}),
    # trace
    "a tensor in an if": (dh.TraceError, r"test_errors\.py, line \d+.*hidden\.max\(\) > 100", data_dependent, {}),
    "numpy in forward": (dh.TraceError, r"test_errors\.py, line \d+", to_numpy, {}),
    "packed sequences": (dh.DeadheadError, "pack|batch size", packs, {}),
    "a forward that raises": (dh.TraceError, "the user's own reason", raises, {}),
    "a literal number of samples": (dh.TraceError, "batch|samples", counts_samples, {}),
    "a random forward": (dh.TraceError, "random in evaluation mode", is_random, {}),
    "an output that is text": (dh.TraceError, "Shell returns no tensor", gives_text, {}),
    "an output that is nothing": (dh.TraceError, "Shell returns no tensor", gives_nothing, {}),
    # cut
    "nothing that can be pruned": (dh.CutError, "Nothing in Shell.*softmax", mixes_all, {}),
    "a literal width": (dh.CutError, "Nothing in Shell can be cut: first: .*forward fails", a_literal, {}),
}  # fmt: skip


@pytest.mark.parametrize("inplace", each_of([False, True], [False]), ids=["copy", "in place"])
@pytest.mark.parametrize("what", CASES)
def test_a_refused_prune_is_one_sentence_and_leaves_everything_as_it_was(
    what: str, inplace: bool, tmp_path: Path, unharmed: Unharmed
) -> None:
    kind, words, body, options = CASES[what]
    model = lived_in(body)
    asked = {"data": GOOD, "loss": "cross_entropy", "units": 0.5, "inplace": inplace, **options}
    data = asked.pop("data")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    optimizer.step()
    state = repr(optimizer.state_dict())
    with unharmed(model, tmp_path, INPUTS, TARGETS), pytest.raises(dh.DeadheadError) as caught:
        dh.prune(model, data, optimizer=optimizer, **asked)
    assert isinstance(caught.value, kind), caught.value
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert message[0].isupper() or message.split()[0].islower() or message.split("=")[0].isidentifier()
    assert len(message) < 600
    assert repr(optimizer.state_dict()) == state


@pytest.mark.parametrize("error", [KeyError("the user's own loss")])
def test_an_error_of_the_users_own_passes_through_and_leaves_everything_as_it_was(
    error: Exception, unharmed: Unharmed
) -> None:
    model = lived_in()
    with unharmed(model), pytest.raises(type(error), match="own loss"):
        dh.prune(model, GOOD, loss=stops, units=0.5)


def broken_data() -> Any:
    yield INPUTS, TARGETS
    raise OSError("the disk is gone")


def test_an_error_of_the_data_passes_through_and_leaves_everything_as_it_was(unharmed: Unharmed) -> None:
    model = lived_in()
    with unharmed(model), pytest.raises(OSError, match="disk"):
        dh.prune(model, broken_data(), loss="cross_entropy", units=0.5)


def test_an_interrupt_in_any_step_leaves_everything_as_it_was(unharmed: Unharmed) -> None:
    steps: list[str] = []
    asked: dict[str, Any] = {"loss": "cross_entropy", "units": 0.5, "inplace": True, "rounds": 2}
    model = lived_in()
    dh.prune(copy.deepcopy(model), GOOD, **asked, progress=lambda name, done, total: steps.append(name))
    assert len(set(steps)) >= 4
    for last in (len(steps), 1, *{steps.index(name) + 1 for name in steps}):
        heard: list[str] = []

        def progress(name: str, done: int, total: int, heard: list[str] = heard, last: int = last) -> None:
            heard.append(name)
            if len(heard) == last:
                raise KeyboardInterrupt

        with unharmed(model), pytest.raises(KeyboardInterrupt):
            dh.prune(model, GOOD, **asked, progress=progress)


def test_an_optimizer_of_another_model_is_refused(unharmed: Unharmed) -> None:
    model, other = lived_in(), lived_in()
    optimizer = torch.optim.Adam(other.parameters())
    with unharmed(model, other), pytest.raises(dh.CutError, match=r"optimizer.*no parameter of Shell"):
        dh.prune(model, GOOD, loss="cross_entropy", units=0.5, optimizer=optimizer)


def test_lazy_modules_are_refused_before_anything_happens() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3)).double()
    with pytest.raises(dh.TraceError, match=r"0\.weight is lazy.*run the model once"):
        dh.prune(model, GOOD, loss="cross_entropy", units=0.5)
    assert isinstance(model[0].weight, nn.UninitializedParameter)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 3)
        self.inner = nn.Linear(3, 6)
        self.hidden = [nn.Linear(6, 6).double()]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.hidden[0](torch.tanh(self.first(x))) + self.inner(x)))


def test_modules_in_a_python_list_are_named_as_the_reason(unharmed: Unharmed) -> None:
    model = unit_gain(Listed())
    with unharmed(model, model.hidden[0]), pytest.raises(dh.CutError, match=r"list|registered|hidden"):
        dh.prune(model, GOOD, loss="cross_entropy", units=0.5)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(dh.TraceError, match=r"torch\.nn\.Module.*function"):
        dh.prune(plain, GOOD, loss="cross_entropy", units=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"criterion": "best"}, dh.DataError, "no criterion 'best'"),
        ({"reference": "middle"}, dh.DataError, "no reference 'middle'.*zero, mean"),
        ({"loss": "best"}, dh.LossError, "no loss 'best'"),
        ({"data": []}, dh.DataError, "no samples"),
        ({"data": nan_inputs()}, dh.DataError, "not finite"),
        ({"loss": single}, dh.LossError, "per sample"),
        ({"loss": "model"}, dh.LossError, "mrs needs a loss for each sample.*magnitude"),
    ],
    ids=["criterion", "reference", "loss", "no data", "not finite", "one number", "model"],
)
def test_a_refused_score_leaves_everything_as_it_was(
    options: dict[str, Any], kind: type[Exception], words: str, unharmed: Unharmed
) -> None:
    model = lived_in()
    asked = {"data": GOOD, "loss": "cross_entropy", "criterion": "mrs", **options}
    with unharmed(model, INPUTS), pytest.raises(kind, match=words) as caught:
        dh.score(model, asked.pop("data"), **asked)
    assert "\n" not in str(caught.value)


def test_parameters_that_are_not_finite_are_refused(unharmed: Unharmed) -> None:
    model = mlp(3, 6, 3)
    with torch.no_grad():
        model[0].weight[1, 1] = float("nan")
    for criterion in ("mrs", "magnitude", "random"):
        with unharmed(model), pytest.raises(dh.DeadheadError, match="finite"):
            dh.prune(model, GOOD, loss="cross_entropy", criterion=criterion, units=0.5)


def test_a_result_that_cannot_be_saved_where_a_file_stands_says_so(tmp_path: Path, unharmed: Unharmed) -> None:
    pruned = dh.prune(unit_gain(Residual()), classes(24, 2, 5, 5), loss="cross_entropy", units=0.5)
    path = tmp_path / "file"
    path.write_text("mine")
    with unharmed(tmp_path), pytest.raises((dh.DeadheadError, FileExistsError, NotADirectoryError), match="file"):
        pruned.save(path)
