"""The six examples of CONTRIBUTING.md: that they stand there to the letter, and that they do what they say."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.compensate import COMPENSATIONS
from deadhead.graph.catalogue import CATALOGUE
from deadhead.graph.units.rules import RULES
from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.pruning.options import Options
from deadhead.relevance.registry import METHODS
from deadhead.scores import CRITERIA
from deadhead.select.budget import BUDGETS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "docs/extending").glob("*.py"))


REGISTRIES: list[dict[str, Any]] = [
    CATALOGUE, RULES, CRITERIA._entries, COMPENSATIONS._entries, BUDGETS._entries, METHODS._entries,
    EXPERIMENTS._entries,
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _registries_as_they_were() -> Iterator[None]:
    for name in (CRITERIA, COMPENSATIONS, BUDGETS, METHODS, EXPERIMENTS):
        len(name)  # entry points are loaded
    before = [dict(each) for each in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


@cache
def example(name: str) -> ModuleType:
    """The module of an example, which registers what it defines; once in a process."""
    spec = importlib.util.spec_from_file_location(f"extending_{name}", ROOT / f"docs/extending/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_one_example_of_each_kind() -> None:
    assert EXAMPLES == ["budget", "compensation", "criterion", "experiment", "op", "relevance_rule"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_contributing_shows_the_example_to_the_letter(name: str) -> None:
    code = (ROOT / f"docs/extending/{name}.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "CONTRIBUTING.md").read_text()


class Grouped(nn.Module):
    """A grouped convolution, a linear layer behind a flatten, and a consumer without a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Conv2d(2, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 4, 3, padding=1, groups=2)
        self.last = nn.Linear(4 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.make(x))
        total = hidden.sum(1).mean((1, 2))
        return self.last(torch.relu(self.grouped(hidden)).flatten(1)) + total[:, None]


def test_wanda_is_a_plain_loop_over_grouped_columns_flattened_ones_and_consumers_without_a_weight() -> None:
    example("criterion")
    torch.manual_seed(0)
    model = Grouped().double().eval()
    x = torch.randn(8, 2, 4, 4, dtype=torch.float64)
    found = dh.score(model, [(x, torch.randint(3, (8,)))], loss="cross_entropy", criterion="wanda")
    hidden = torch.relu(model.make(x)).detach()
    second = torch.relu(model.grouped(hidden)).flatten(1).detach()
    patches = F.unfold(hidden, 3, padding=1).unflatten(1, (6, 9)).square().mean((0, 3)).sqrt()
    expected = torch.zeros(3, dtype=torch.float64)  # unit k is channels k and 3 + k, of the two groups
    for channel in range(6):
        for output in range(2 * (channel // 3), 2 * (channel // 3) + 2):
            weight = model.grouped.weight[output, channel % 3].flatten().abs().detach()
            expected[channel % 3] += (weight * patches[channel]).sum()
        expected[channel % 3] += hidden[:, channel].square().mean().sqrt()
    torch.testing.assert_close(found["make"], expected, rtol=1e-9, atol=0)
    flattened = model.last.weight.abs().sum(0).detach() * second.square().mean(0).sqrt()
    channels = flattened.reshape(4, 16).sum(1)
    assert len(found["grouped"]) in (2, 4)  # a channel, or one of each group
    per_unit = channels if len(found["grouped"]) == 4 else channels.reshape(2, 2).sum(0)
    torch.testing.assert_close(found["grouped"], per_unit, rtol=1e-9, atol=0)


def test_medians_go_into_the_biases_and_an_option_scales_them() -> None:
    example("compensation")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double().eval()
    x = torch.randn(200, 3, dtype=torch.float64)
    data = [(x, torch.randint(2, (200,)))]
    options = {"loss": "cross_entropy", "units": 0.5, "criterion": "magnitude", "compensate": "median", "curve": 0}
    pruned = dh.prune(model, data, compensate_options={"share": 0.5}, **options)  # type: ignore[arg-type]
    removed = pruned.plan.removed["0"]
    fit = torch.cat([batch.raw[0] for batch in calibration_of(data)])
    middle = torch.relu(model[0](fit)).detach().quantile(0.5, dim=0)
    expected = model[2].bias + 0.5 * model[2].weight[:, removed] @ middle[removed]
    torch.testing.assert_close(pruned.model[2].bias, expected.detach().requires_grad_(), rtol=1e-9, atol=1e-12)
    with pytest.raises(dh.DataError, match="no option 'shares'; its options are share"):
        dh.prune(model, data, compensate_options={"shares": 0.5}, **options)  # type: ignore[arg-type]


def calibration_of(data: list[tuple[Tensor, Tensor]]) -> list[Any]:
    from deadhead.data.calibration import calibrate, read

    return calibrate(read(data), seed=0).fit


def test_energy_is_a_budget_that_is_spent_like_any_size() -> None:
    module = example("budget")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    data = [(torch.randn(64, 8), torch.randint(2, (64,)))]
    options = {"loss": "cross_entropy", "criterion": "magnitude", "normalize": "none", "compensate": "zero", "curve": 0}
    report = dh.prune(model, data, energy=0.5, **options).report  # type: ignore[arg-type]

    def energy(measures: object) -> float:
        return float(module.MULTIPLY_ADD * measures.macs + module.BYTE * measures.memory)  # type: ignore[attr-defined]

    assert report.budget == "energy=0.5"
    assert 0.4 < energy(report.after) / energy(report.before) <= 0.5 + 1e-6
    with pytest.raises(dh.BudgetError, match="no budget 'energi', and no argument of that name; did you mean 'energy'"):
        Options(budgets={"energi": 0.5})


def test_an_op_of_another_package_is_labelled_bounded_and_explained() -> None:
    module = example("op")
    torch.manual_seed(0)
    model = module.Soft().double().eval()
    x = torch.randn(16, 4, dtype=torch.float64)
    network = dh.trace(model, x)
    assert [(group.name, group.size) for group in network.groups] == [("first", 6)]
    pruned = dh.prune(network, [(x, torch.randint(2, (16,)))], loss="cross_entropy", units=0.5, curve=0)
    assert pruned.report.difference <= 1e-10
    relevance = dh.attribute(network, x, 0, method="blame_bias")
    total = relevance.inputs.sum(1) + sum(each.flatten(1).sum(1) for each in relevance.biases.values())
    torch.testing.assert_close(total + relevance.absorbed, model(x)[:, 0], rtol=1e-9, atol=1e-10)
    bounds = dh.score(network, [(x, torch.randint(2, (16,)))], loss="cross_entropy", criterion="certificate")["first"]
    damage = dh.score(network, [(x, torch.randint(2, (16,)))], loss="cross_entropy", criterion="mrp")["first"] / 16
    assert (bounds > 0).all()
    assert bounds.shape == damage.shape


@pytest.mark.parametrize("first", [0.5, 0.8])
def test_uneven_shares_conserve_relevance_and_are_what_they_say(first: float) -> None:
    example("relevance_rule")

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x[:, :2] * x[:, 2:]).sum(1, keepdim=True)

    x = torch.randn(5, 4, dtype=torch.float64)
    found = dh.attribute(Product(), x, 0, method="lrp_uneven", first=first)
    product = x[:, :2] * x[:, 2:]
    torch.testing.assert_close(found.inputs, torch.cat([first * product, (1 - first) * product], 1))
    assert found.residual.abs().max() < 1e-12


def test_the_experiment_runs_by_name_and_its_result_can_come_out_either_way() -> None:
    example("experiment")
    few, many = (run_experiment("dead_at_birth", bias=bias, seed=1)["dead"] for bias in (0.0, -3.0))
    assert few < 0.02 < many
    assert run_experiment("dead_at_birth", seed=3) == run_experiment("dead_at_birth", seed=3)
    (claim,) = EXPERIMENTS["dead_at_birth"].claims
    assert claim.judge([{"dead": few}] * 5).verdict == claim.made_up(holds=True).verdict == "holds"
    assert claim.judge([{"dead": many}] * 5).verdict == claim.made_up(holds=False).verdict == "does not hold"
