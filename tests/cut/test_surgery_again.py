"""Surgeries compose: however often a model was pruned, one surgery leads from the intact class to it."""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.cut.surgery import Surgery, operate, remember, surgery_behind
from support.networks import Residual, classes, mlp, unit_gain
from support.quick import each_of
from support.snapshot import Unharmed, bits, same

DATA = classes(40, 2, 5, 5)
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "curve": 0}


class Grouped(nn.Module):
    """Convolutions of every kind of grouping, norms without tensors, consumers without biases: (n, 2, 5, 5) to
    (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 16, 3, padding=1, bias=False)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm = nn.GroupNorm(4, 16)
        self.pairs = nn.Conv2d(16, 12, 1, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(12, 8, 2, bias=False)
        self.fc = nn.Linear(8, 12, bias=False)
        self.twin = nn.Linear(8, 12, bias=False)
        self.twin.weight = self.fc.weight
        self.last = nn.Linear(12, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.depth(torch.relu(self.stem(x)))))
        x = torch.relu(self.up(torch.relu(self.pairs(x)))).mean((2, 3))
        return self.last(torch.relu(self.fc(x)) + torch.sigmoid(self.twin(x)))


MODELS = {"residual": lambda: unit_gain(Residual(12)), "grouped": lambda: unit_gain(Grouped())}


def thrice(model: nn.Module, inplace: tuple[bool, bool, bool], **options: Any) -> list[dh.Pruned]:
    """Three prunes, each of what the one before gave."""
    results: list[dh.Pruned] = []
    for here in inplace:
        results.append(dh.prune(results[-1].model if results else model, DATA, inplace=here, **options))
    return results


INPLACE = ((False, False, False), (True, True, True), (False, True, False))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("inplace", INPLACE, ids=str)
@pytest.mark.parametrize("compensate", each_of(["zero", "mean", "least_squares"], ["mean"]))
def test_a_model_pruned_three_times_is_loaded_in_one_step(
    name: str, inplace: tuple[bool, bool, bool], compensate: str, tmp_path: Path, unharmed: Unharmed
) -> None:
    results = thrice(MODELS[name](), inplace, **FAST, units=0.7, compensate=compensate)
    last = results[-1]
    last.save(tmp_path)
    counts = [sum(len(group.removed) for group in each.report.groups) for each in results]
    assert all(counts), "every prune removes something"
    intact = MODELS[name]()
    with unharmed(intact):
        found = dh.load(tmp_path, intact)
    assert same(found, last.model)
    assert bits(found(DATA[0][0])) == bits(last.model.eval()(DATA[0][0]))
    assert surgery_behind(found) == surgery_behind(last.model)
    again = dh.prune(found, DATA, **FAST, units=0.7, compensate=compensate)
    again.save(tmp_path)
    assert same(dh.load(tmp_path, MODELS[name]()), again.model)
    assert bool(last.surgery.biases) == (compensate != "zero" and name == "grouped")


def test_the_entries_that_remain_are_those_of_the_intact_model() -> None:
    model = MODELS["residual"]()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    last = thrice(model, (True, False, True), **FAST, units=0.7, compensate="zero")[-1]
    for name, parameter in last.model.named_parameters():
        expected = before[name]
        for axis, kept in last.surgery.keep.get(name, {}).items():
            expected = expected.movedim(axis, 0)[kept].movedim(0, axis)
        assert bits(parameter) == bits(expected), name


def test_a_copy_of_either_step_leads_on_alone() -> None:
    """Pruning a copy leaves what the original remembers as it was."""
    first = dh.prune(MODELS["residual"](), DATA, **FAST, units=0.7)
    before = surgery_behind(first.model)
    second = dh.prune(first.model, DATA, **FAST, units=0.7)
    assert surgery_behind(first.model) == before == first.surgery
    assert second.surgery != first.surgery
    assert surgery_behind(MODELS["residual"]()) == Surgery()


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_what_a_module_remembers_is_copied_and_pickled(how: str, tmp_path: Path) -> None:
    pruned = dh.prune(mlp(3, 8, 6, 3), classes(40, 3), **FAST, units=0.5)
    if how == "deepcopy":
        other = copy.deepcopy(pruned.model)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(pruned.model))
    else:
        file = io.BytesIO()
        torch.save(pruned.model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert surgery_behind(other) == pruned.surgery
    again = dh.prune(other, classes(40, 3), **FAST, units=0.5)
    again.save(tmp_path)
    assert same(dh.load(tmp_path, mlp(3, 8, 6, 3)), again.model)


def test_a_pickle_is_read_where_deadhead_is_not_installed(tmp_path: Path) -> None:
    pruned = dh.prune(mlp(3, 8, 3), classes(40, 3), **FAST, units=0.5)
    torch.save(pruned.model, tmp_path / "model.pt")
    code = (
        "import sys; sys.modules['deadhead'] = None\n"
        "import torch; m = torch.load(sys.argv[1], weights_only=False)\n"
        "print(m[0].out_features, '_deadhead_surgery' in vars(m[0]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "model.pt"], capture_output=True, text=True)
    assert done.stdout.split() == ["4", "True"], done.stderr


def program(width: int = 32) -> Any:
    """A traced program whose sizes are written down: a number of groups, parts of a split, a view."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 2 * width)
            self.norm = nn.GroupNorm(16, 2 * width)
            self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width)
            self.last = nn.Linear(width, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.norm(self.first(x)).chunk(2, 1)
            y = (torch.relu(left) * torch.sigmoid(right)).view(x.shape[0], width, 1).expand(-1, -1, 4)
            return self.last(torch.relu(self.conv(y)).mean(2))

    rows = torch.export.Dim("rows", min=2)
    model = unit_gain(Parts())
    return torch.export.export(model, (torch.randn(4, 3).double(),), dynamic_shapes=({0: rows},)).module()


@pytest.mark.parametrize("inplace", [(False, False, False), (True, True, True)], ids=str)
@pytest.mark.parametrize("compensate", ["zero", "least_squares"])
def test_a_traced_program_is_rewritten_from_the_intact_one(
    inplace: tuple[bool, bool, bool], compensate: str, tmp_path: Path
) -> None:
    data = classes(40, 3)
    results: list[dh.Pruned] = []
    for here in inplace:
        before = results[-1].model if results else program()
        results.append(dh.prune(before, data, inplace=here, **FAST, units=0.75, compensate=compensate))
    last = results[-1]
    assert last.surgery.rewrites
    last.save(tmp_path)
    found = dh.load(tmp_path, program())
    assert bits(found(data[0][0])) == bits(last.model(data[0][0]))
    assert found.code == dh.load(tmp_path, results[0].model if not inplace[0] else program()).code
    assert surgery_behind(copy.deepcopy(found)) == surgery_behind(last.model)


def test_a_model_with_a_configuration_is_loaded_in_one_step(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from zoo.huggingface import ENTRIES, built

    inputs = ENTRIES["llama"].inputs(4)
    options = {**FAST, "loss": lambda outputs, _: outputs[0].flatten(1).square().mean(1), "compensate": "zero"}
    model = built("llama")
    for inplace in (False, True, False):
        pruned = dh.prune(model, [inputs], **options, units=0.75, inplace=inplace)
        model = pruned.model
    assert any(attribute.startswith("config.") for _, attribute, _ in pruned.surgery.settings)
    pruned.save(tmp_path)
    found = dh.load(tmp_path, built("llama"))
    with torch.no_grad():
        assert bits(found.eval()(**inputs)[0]) == bits(model.eval()(**inputs)[0])
    assert found.config.to_dict() == model.config.to_dict()


# -- parts of models -------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, mlp(3, 8, 3, seed=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))  # type: ignore[no-any-return]


def test_a_part_that_was_pruned_alone_belongs_to_the_whole(tmp_path: Path) -> None:
    own = {**FAST, "loss": lambda outputs, _: outputs.square().mean(1)}
    model = Two(mlp(3, 24, 3))
    dh.prune(model.body, classes(40, 3), **own, units=0.8, inplace=True)
    pruned = dh.prune(model, classes(40, 3), **FAST, units={"*": 0.8})
    dh.prune(pruned.model.body, classes(40, 3), **own, units=0.8, inplace=True)
    pruned.save(tmp_path / "whole")
    assert same(dh.load(tmp_path / "whole", Two(mlp(3, 24, 3))), pruned.model)
    part = dh.prune(pruned.model.body, classes(40, 3), **own, units=0.8)
    part.save(tmp_path / "part")
    assert same(dh.load(tmp_path / "part", mlp(3, 24, 3)), part.model)


def test_a_layer_that_was_replaced_is_intact(tmp_path: Path) -> None:
    model = dh.prune(mlp(3, 8, 6, 3), classes(40, 3), **FAST, units=0.5).model
    model[4] = nn.Linear(model[2].out_features, 5).double()
    pruned = dh.prune(model, classes(40, 3, count=5), **FAST, units=0.7)
    assert pruned.surgery.keep["4.weight"].keys() == {1}
    assert max(pruned.surgery.keep["4.weight"][1]) < model[2].out_features


# -- files -----------------------------------------------------------------------------------------------------------


def test_an_instance_that_was_pruned_on_the_way_is_taken_too(tmp_path: Path) -> None:
    first, second, third = thrice(MODELS["grouped"](), (False, False, False), **FAST, units=0.7, compensate="mean")
    third.save(tmp_path)
    for given in (MODELS["grouped"](), first.model, second.model, third.model):
        found = dh.load(tmp_path, given)
        assert same(found, third.model)
        assert surgery_behind(found) == third.surgery
    other = dh.prune(MODELS["grouped"](), DATA, **{**FAST, "criterion": "random"}, units=0.3)
    with pytest.raises(dh.LoadError, match="does not fit this Grouped"):
        dh.load(tmp_path, other.model)


def test_files_of_before_load_with_the_model_that_they_were_made_from(tmp_path: Path) -> None:
    """They hold the last surgery alone, which begins with a model that was pruned before."""
    first = dh.prune(MODELS["grouped"](), DATA, **FAST, units=0.7)
    second = dh.prune(first.model, DATA, **FAST, units=0.7)
    second.save(tmp_path)
    recipe = json.loads((tmp_path / "surgery.json").read_text())
    recipe["surgery"] = second.surgery.after(first.surgery).to_json()
    del recipe["from"]
    (tmp_path / "surgery.json").write_text(json.dumps(recipe))
    found = dh.load(tmp_path, first.model)
    assert same(found, second.model)
    assert surgery_behind(found) == second.surgery


# -- as data ---------------------------------------------------------------------------------------------------------


def test_two_surgeries_are_one() -> None:
    first = Surgery(
        {"a": {0: [1, 3, 4, 6], 1: [0, 2]}, "b": {0: [0, 1]}},
        [("m", "heads", 4), ("n", "size", (4, 2))],
        {"m.bias": 4},
        [("view", 1, [None, 4, [6, 8]]), ("split", 1, [4, 4]), ("norm", 2, 3)],
    )
    later = Surgery(
        {"a": {0: [3, 0]}, "c": {2: [5]}, "m.bias": {0: [0, 3]}},
        [("m", "heads", 2)],
        {"k.bias": 1},
        [("view", 1, [None, 2, [3, 6]]), ("split", 1, [2, 1]), ("add", 0, 7)],
    )
    both = first.then(later)
    assert both.keep == {"a": {0: [6, 1], 1: [0, 2]}, "b": {0: [0, 1]}, "c": {2: [5]}}
    assert both.settings == [("m", "heads", 2), ("n", "size", (4, 2))]
    assert both.biases == {"m.bias": 2, "k.bias": 1}
    assert both.rewrites == [("view", 1, [None, 2, [18, 48]]), ("split", 1, [2, 1]), ("norm", 2, 3), ("add", 0, 7)]
    assert first.keep["a"] == {0: [1, 3, 4, 6], 1: [0, 2]}, "neither is changed"
    assert first.then(Surgery()) == first == Surgery().then(first)


def test_what_remains_of_a_surgery_is_done_after_the_first() -> None:
    first = Surgery({"a": {0: [1, 3, 4, 6]}, "b": {1: [0]}}, [("m", "n", 4)], {"k": 4}, [("v", 1, [4, [6, 8]])])
    whole = first.then(Surgery({"a": {0: [2], 1: [1]}, "k": {0: [2]}}, [("m", "n", 1)], {}, [("v", 1, [1, [3, 6]])]))
    rest = whole.after(first)
    assert rest.keep == {"a": {0: [2], 1: [1]}, "k": {0: [0]}}
    found = first.then(rest)
    assert (found.keep, found.settings, found.biases) == (whole.keep, whole.settings, whole.biases)
    [(_, _, [number, (numerator, denominator)])] = found.rewrites
    assert (number, numerator / denominator) == (1, 3 / 8)
    assert whole.after(whole).keep == {}
    with pytest.raises(dh.CutError, match="already lost"):
        first.after(whole)


def test_a_surgery_that_does_not_follow_is_refused() -> None:
    with pytest.raises(dh.CutError, match="a has 2 entries along axis 0, too few"):
        Surgery({"a": {0: [1, 3]}}).then(Surgery({"a": {0: [2]}}))


def test_one_step_after_another_equals_both_at_once_where_tensors_are_shared_under_other_names() -> None:
    model = MODELS["grouped"]()
    steps = [Surgery({"fc.weight": {0: [0, 2, 3, 9]}}), Surgery({"twin.weight": {0: [1, 3]}})]
    twice, once = copy.deepcopy(model), copy.deepcopy(model)
    for step in steps:
        operate(twice, step)
        remember(twice, step)
    operate(once, surgery_behind(twice))
    assert torch.equal(once.fc.weight, model.fc.weight[[2, 9]])
    assert same(once, twice)
    assert once.twin.weight is once.fc.weight


def test_a_module_with_two_names_remembers_all_that_was_done_under_either() -> None:
    model = nn.Module()
    model.one = nn.Linear(3, 4, bias=False)
    model.other = model.one
    step = Surgery(
        {"one.weight": {0: [0, 3]}}, [("one", "out_features", 2), ("other", "out_features", 2)], {"one.bias": 2}
    )
    more = Surgery({"other.weight": {1: [2]}, "other.bias": {0: [1]}}, [], {})
    twice, once = copy.deepcopy(model), copy.deepcopy(model)
    for each in (step, more):
        operate(twice, each)
        remember(twice, each)
    operate(once, surgery_behind(twice))
    assert same(once, twice)
    assert once.one.bias.shape == (1,)


def test_a_program_made_of_a_module_that_was_cut_remembers_it_once() -> None:
    model = mlp(3, 8, 3)
    first, later = Surgery({"0.weight": {0: [1, 2, 6, 7]}}), Surgery({"0.weight": {0: [2, 3]}})
    part = copy.deepcopy(model)
    operate(part, first)
    remember(part, first)
    program = torch.fx.symbolic_trace(part)
    assert surgery_behind(program) == first
    operate(program, later)
    remember(program, later)
    assert surgery_behind(program).keep == {"0.weight": {0: [6, 7]}}
    assert surgery_behind(copy.deepcopy(program)) == surgery_behind(program)
    assert bits(program.get_parameter("0.weight")) == bits(model[0].weight[[6, 7]])
