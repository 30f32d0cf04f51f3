"""Every architecture of the zoo: its groups are those that it has by meaning, and half of each can be cut.

The reference for a cut knows nothing of the library's gates: a fresh instance of the class in which everything that
belongs to the removed units is set to zero.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import deadhead as dh
from deadhead.graph.network import Network
from deadhead.select.sizes import Sizes
from support.quick import each_of
from support.snapshot import facts_of
from zoo import exhaustive, expected, plain

ROWS = {"traced with": 4, "calibration": 6, "new": 5}
LEAST_MOVE = 0.01
"""Cuts that move the outputs by less prove nothing."""
DIRECTIONS = ("parametrizations.weight.original1", "weight_v")
"""A weight norm divides these by their own length: its magnitudes are set to zero instead."""
ROUTERS = ("router.weight", "mlp.gate.weight")
"""What scores experts."""
HALF: dict[str, Any] = {"units": 0.5, "criterion": "magnitude", "compensate": "zero", "curve": 0}
GENERATIVE = [f"huggingface/{name}" for name in expected.GENERATIVE]
CUTTABLE = [name for name in expected.GROUPS if name not in expected.NOTHING]
CUTTABLE.sort(key=lambda name: name not in exhaustive.SLOWEST)
ALL = [*CUTTABLE, *expected.NOTHING]
WIDE = [
    f"huggingface/{name}"
    for name in (
        "bert", "albert", "gpt2", "llama", "gemma2", "olmo2", "mamba", "vit", "swin", "convnextv2", "segformer",
    )
]  # fmt: skip


def each(names: Iterable[str], quick: Collection[str] | None = None) -> Any:
    """One test for each name, those of one entry behind one another and in one process; without `quick`, those of the
    entries that are not listed as exhaustive are quick."""
    params = each_of(names, quick or (lambda name: name not in exhaustive.ENTRIES))
    return pytest.mark.parametrize("name", params, ids=str, scope="module")


# -- an entry and its inputs --------------------------------------------------------------------------------------


def zoo_of(name: str) -> Any:
    """The module of the zoo that an entry is in."""
    if name.startswith("plain/"):
        return plain
    pytest.importorskip("transformers")
    from zoo import huggingface

    return huggingface


def fresh(name: str) -> nn.Module:
    """An intact instance, always with the same weights."""
    zoo, _, short = name.partition("/")
    return settled(zoo_of(name).ENTRIES[short]) if zoo == "plain" else zoo_of(name).built(short)


def settled(entry: plain.Entry) -> nn.Module:
    """A plain network whose batch norms have statistics of what reaches them: without, deep ones forget their input."""
    model = entry.build()
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    if norms:
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.9
            norm.train()
        with torch.no_grad():
            run(model, inputs_of(f"plain/{entry.name}", 16, seed=9))
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()
    return model


def inputs_of(name: str, rows: int, seed: int = 0) -> Any:
    """Inputs with so many rows, others for another seed."""
    entry = zoo_of(name).ENTRIES[name.partition("/")[2]]
    if name.startswith("plain/"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            return entry.inputs(rows)
    many = entry.inputs(rows * (seed + 1))
    return {key: value[rows * seed :] for key, value in many.items()}


def axis_of(name: str) -> int:
    return getattr(zoo_of(name).ENTRIES[name.partition("/")[2]], "batch_axis", 0)


def run(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def floats(outputs: Any) -> Iterator[Tensor]:
    """The floating-point tensors of whatever a model returns."""
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from floats(value)
    elif isinstance(outputs, (tuple, list)):
        for value in outputs:
            yield from floats(value)


def outputs_of(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        return list(floats(run(model, inputs)))


def squares(outputs: Any, batch: Any) -> Tensor:
    """The mean square of each row of the first output."""
    first = next(floats(outputs))
    return first.reshape(first.shape[0], -1).square().mean(1)


def apart(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest max |a - b| / max |b| over the outputs."""
    assert [a.shape for a in found] == [b.shape for b in wanted]
    pairs = zip(found, wanted, strict=True)
    return max(float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-30)) for a, b in pairs)


# -- tracing and pruning, once for an entry -----------------------------------------------------------------------


@dataclass(frozen=True)
class Pruning:
    """An entry cut to half of its units, and what its model was before and after."""

    network: Network
    pruned: dh.Pruned
    before: dict[str, Any]
    after: dict[str, Any]


@functools.lru_cache(maxsize=4)
def traced(name: str) -> Network:
    return dh.trace(fresh(name), inputs_of(name, ROWS["traced with"]), batch_axis=axis_of(name))


@functools.lru_cache(maxsize=4)
def halved(name: str) -> Pruning:
    network = traced(name)
    before = facts_of(network.module)
    inputs = inputs_of(name, ROWS["calibration"])
    data = [inputs if isinstance(inputs, dict) else (inputs,)]
    pruned = dh.prune(network, data, loss=squares, **HALF)
    return Pruning(network, pruned, before, facts_of(network.module))


def zeroed(name: str) -> nn.Module:
    """A fresh instance with all that belongs to the removed units at zero."""
    found, model = halved(name), fresh(name)
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    with torch.no_grad():
        for group in found.network.groups:
            removed = found.pruned.plan.removed.get(group.name)
            for part in group.slices if removed is not None else ():
                if not part.parameter.endswith(DIRECTIONS):
                    gone = torch.isin(part.units, removed).nonzero()[:, 0]
                    tensors[part.parameter].index_fill_(part.axis, gone, 0)
    return model


class WithoutExperts(TorchFunctionMode):
    """While it lasts, the linear layers that score experts give minus infinity for those that were removed."""

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        found, tensors = halved(name), dict(model.named_parameters())
        self.gone: dict[int, Tensor] = {}
        for group in found.network.groups:
            removed = found.pruned.plan.removed.get(group.name)
            if removed is not None and any(site.among for site in group.consumers):
                names = [part.parameter for part in group.slices if part.parameter.endswith(ROUTERS)]
                self.gone.update({id(tensors[each]): removed for each in names})

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is torch.nn.functional.linear and id(args[1]) in self.gone:
            return result.index_fill(-1, self.gone[id(args[1])], -torch.inf)
        return result


def tolerance_of(model: nn.Module) -> float:
    return 1e-9 if next(model.parameters()).dtype == torch.float64 else 1e-4


# -- what an architecture has -------------------------------------------------------------------------------------


def test_every_plain_entry_is_told() -> None:
    told = [*expected.PLAIN, *(name.removeprefix("plain/") for name in expected.UNTRACEABLE)]
    assert sorted(told) == sorted(plain.ENTRIES)


def test_every_entry_of_transformers_is_told() -> None:
    assert sorted(expected.HUGGINGFACE) == sorted(zoo_of("huggingface/").ENTRIES)


@each(ALL)
def test_groups_are_what_the_architecture_has(name: str) -> None:
    wanted = Counter((kind, size) for kind, *sizes in expected.GROUPS[name].values() for size in sizes)
    assert Counter((group.kind, group.size) for group in traced(name).groups) == wanted


@each([name for name in ALL if name in expected.FIXED])
def test_what_is_no_unit_has_its_reason(name: str) -> None:
    fixed = traced(name).fixed
    for pattern, reason in expected.FIXED[name].items():
        reasons = [why for module, why in fixed.items() if fnmatch.fnmatch(module, pattern)]
        assert reasons, pattern
        assert all(fnmatch.fnmatch(why, f"*{reason}*") for why in reasons), reasons


@each(ALL)
def test_graph_computes_what_the_module_computes(name: str) -> None:
    network = traced(name)
    with torch.no_grad():
        # With what requires a gradient as it is: torch folds the axes of products by it, which rounds otherwise.
        found = list(floats(network.static.graph.run(network.example, network.state())))
    wanted = outputs_of(network.module, inputs_of(name, ROWS["traced with"]))
    assert apart(found, wanted) <= expected.ROUNDED.get(name, 0.0)


@each(list(expected.UNTRACEABLE))
def test_what_cannot_be_traced_says_why(name: str) -> None:
    with pytest.raises(dh.TraceError) as error:
        traced(name)
    assert re.search(expected.UNTRACEABLE[name], str(error.value))


@each(list(expected.NOTHING))
def test_what_has_nothing_to_cut_says_why(name: str) -> None:
    inputs = inputs_of(name, ROWS["calibration"])
    with pytest.raises(dh.CutError, match=expected.NOTHING[name]):
        dh.prune(traced(name), [inputs], width=False, loss=squares, **HALF)
    if traced(name).freed_by_width():
        pruned = dh.prune(traced(name), [inputs], loss=squares, **HALF)
        assert "nothing else can be cut, so the width was" in pruned.report.notes[0]
        assert pruned.report.difference <= 1e-5


# -- half of it cut -----------------------------------------------------------------------------------------------


@each(CUTTABLE)
def test_half_of_each_group_goes(name: str) -> None:
    steps = expected.STEPS.get(name, {})
    for group in halved(name).pruned.report.groups:
        step = next((step for pattern, step in steps.items() if fnmatch.fnmatch(group.name, pattern)), 1)
        kept = max(1, round(group.units / 2))
        if step > 1:
            assert (group.units - len(group.removed)) % step == 0
            assert abs(group.units - len(group.removed) - kept) < step
        else:
            assert group.units - len(group.removed) == kept, group.name


@each([name for name in CUTTABLE if name not in expected.COUNTED_OTHERWISE])
def test_sizes_are_known_before_anything_is_cut(name: str) -> None:
    found = halved(name)
    sizes, report = Sizes(found.network, found.network.groups), found.pruned.report
    gone = {group: len(units) for group, units in found.pruned.plan.removed.items()}
    for removed, measured in (({}, report.before), (gone, report.after)):
        assert sizes.macs(removed) == measured.macs
        assert sizes.parameters(removed) == measured.parameters


@each(CUTTABLE)
def test_groups_left_whole_are_known_with_their_reasons(name: str) -> None:
    found = halved(name)
    cut, reasons = {group.name for group in found.pruned.report.groups}, found.pruned.report.left_alone
    whole = {group.name for group in found.network.groups} - cut
    patterns = expected.LEFT.get(name, {})
    for pattern, reason in patterns.items():
        matched = fnmatch.filter(whole, pattern)
        assert matched, pattern
        for group in matched:
            assert any(each == group and reason in why for each, why in reasons), reasons
    assert not [group for group in whole if not any(fnmatch.fnmatch(group, pattern) for pattern in patterns)]


@each(CUTTABLE)
def test_cut_model_computes_what_the_zeroed_one_computes(name: str) -> None:
    found = halved(name)
    inputs = inputs_of(name, ROWS["new"], seed=1)
    model = zeroed(name)
    with WithoutExperts(name, model):
        reference = outputs_of(model, inputs)
    intact = outputs_of(fresh(name), inputs)
    assert apart(reference, intact) > LEAST_MOVE
    assert type(found.pruned.model) is type(found.network.module)
    assert apart(outputs_of(found.pruned.model, inputs), reference) < tolerance_of(found.network.module)


@each(CUTTABLE)
def test_original_is_left_as_it_was(name: str) -> None:
    found = halved(name)
    changed = [key for key in {**found.before, **found.after} if found.before.get(key) != found.after.get(key)]
    assert not changed


@each(CUTTABLE)
def test_saved_model_loads_into_a_fresh_instance(name: str, tmp_path: Path) -> None:
    pruned = halved(name).pruned
    pruned.save(tmp_path)
    inputs = inputs_of(name, ROWS["new"], seed=1)
    pairs = zip(outputs_of(dh.load(tmp_path, fresh(name)), inputs), outputs_of(pruned.model, inputs), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@each(CUTTABLE)
def test_cut_model_goes_on_learning(name: str, tmp_path: Path) -> None:
    halved(name).pruned.save(tmp_path)
    smaller, intact = dh.load(tmp_path, fresh(name)), fresh(name)
    assert learns(intact, name) == learns(smaller, name)


def learns(model: nn.Module, name: str) -> set[str]:
    """The parameters that a training step gives gradients."""
    if hasattr(model, "config") and hasattr(model.config, "layerdrop"):
        model.config.layerdrop = 0.0  # leaves out whole layers by chance
    model.train()
    trainer = torch.optim.SGD(model.parameters(), lr=1e-3)
    outputs = run(model, inputs_of(name, ROWS["new"], seed=1))
    loss = squares(outputs, None).mean() + sum(each.square().mean() for each in floats(outputs))
    assert torch.isfinite(loss)
    loss.backward()
    trainer.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@each(GENERATIVE)
def test_cut_model_generates(name: str) -> None:
    zoo_of(name)
    inputs = {key: value for key, value in inputs_of(name, 2).items() if not key.startswith("decoder")}

    def generated(model: Any, cache: bool) -> Tensor:
        return model.generate(**inputs, max_new_tokens=3, do_sample=False, use_cache=cache)

    intact = fresh(name)
    assert torch.equal(generated(intact, True), generated(intact, False))
    smaller = halved(name).pruned.model
    assert torch.equal(generated(smaller, True), generated(smaller, False))


@each(WIDE, exhaustive.QUICK_WIDTHS)
def test_the_width_of_residual_streams_can_be_cut_through_their_norms(name: str) -> None:
    model, inputs = fresh(name), inputs_of(name, ROWS["calibration"])
    network = dh.trace(model, inputs_of(name, ROWS["traced with"]), batch_axis=axis_of(name), width=True)
    streams = [group for group in network.groups if group.norms]
    assert streams
    data = [inputs if isinstance(inputs, dict) else (inputs,)]
    pruned = dh.prune(network, data, loss=squares, width=True, **HALF)
    assert all(group.name in pruned.plan.removed for group in streams)
    assert pruned.report.difference <= 1e-5
    assert pruned.report.approximation > LEAST_MOVE
    new = inputs_of(name, ROWS["new"], seed=1)
    assert [each.shape for each in outputs_of(pruned.model, new)] == [each.shape for each in outputs_of(model, new)]


@each([name for name in expected.LEFT if name.startswith("plain/")], exhaustive.QUICK_PROGRAMS)
def test_the_exported_program_goes_further_than_the_class(name: str) -> None:
    model, inputs = fresh(name), inputs_of(name, ROWS["calibration"])
    data = [inputs if isinstance(inputs, dict) else (inputs,)]
    example, axis = inputs_of(name, ROWS["traced with"]), axis_of(name)
    try:
        told = " ".join(halved(name).pruned.report.notes)
    except dh.CutError as error:
        told = str(error)
    assert "exported program" in told
    network = dh.trace(dh.trace(model, example, batch_axis=axis).program(), example, batch_axis=axis)
    pruned = dh.prune(network, data, loss=squares, **HALF)
    assert pruned.plan.removed.keys() == {group.name for group in network.groups}
    assert pruned.report.difference <= 1e-10
    before, after = (outputs_of(each, inputs_of(name, ROWS["new"], seed=1)) for each in (model, pruned.model))
    assert [each.shape for each in before] == [each.shape for each in after]


def test_multiply_adds_of_experts_are_those_worked_out_by_hand() -> None:
    network = traced("huggingface/mixtral")
    config, tokens = network.module.config, network.example[0].shape[1]
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    projections = 2 * tokens * width * head * (config.num_attention_heads + config.num_key_value_heads)
    attention = projections + 2 * tokens**2 * head * config.num_attention_heads
    router = tokens * width * config.num_local_experts
    experts = tokens * config.num_experts_per_tok * 3 * width * config.intermediate_size
    expected = config.num_hidden_layers * (attention + router + experts) + tokens * width * config.vocab_size
    assert Sizes(network, network.groups).macs({}) == expected
