"""Normalisations over a part: the op itself on the entries that are open, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadhead.gates.renormalise import RULES, renormalised
from deadhead.graph.graph import Edits, Graph
from deadhead.graph.nodes import op_name
from deadhead.graph.units.registry import NORMALISATIONS

ROWS, STEPS, WIDTH = 3, 4, 7
OPEN = torch.tensor([0, 2, 3, 6])

WEIGHT, BIAS = torch.randn(2, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

CASES: dict[str, Callable[..., Any]] = {
    "layer_norm": lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b, 1e-3),
    "layer_norm without weights": lambda x, w, b: F.layer_norm(x, (x.shape[-1],)),
    "native_layer_norm": lambda x, w, b: torch.native_layer_norm(x, (x.shape[-1],), w, b, 1e-5)[0],
    "rms_norm": lambda x, w, b: F.rms_norm(x, (x.shape[-1],), w, 1e-3),
    "rms_norm without eps": lambda x, w, b: F.rms_norm(x, (x.shape[-1],)),
    "mean": lambda x, w, b: x.mean(-1, keepdim=True),
    "mean of an axis that goes": lambda x, w, b: x.mean(2),
    "mean over two axes": lambda x, w, b: x.mean((1, 2), keepdim=True),
    "var": lambda x, w, b: x.var(-1, unbiased=False, keepdim=True),
    "var, unbiased": lambda x, w, b: x.var(-1),
    "var with a correction": lambda x, w, b: x.var(-1, correction=2),
    "std": lambda x, w, b: x.std(-1),
    "var_mean": lambda x, w, b: torch.stack(torch.var_mean(x, -1, correction=0)),
    "std_mean": lambda x, w, b: torch.stack(torch.std_mean(x, -1)),
}


class Norm(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return self.function(x, w, b)


def graph_of(name: str, dtype: torch.dtype = torch.float64) -> tuple[Graph, Any]:
    x = torch.randn(ROWS, STEPS, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(0)) + 0.5
    tensors = [x, WEIGHT.to(dtype), BIAS.to(dtype)]
    graph = Graph(torch.export.export(Norm(CASES[name]), tuple(tensors), strict=False))
    return graph, tensors


def replay(graph: Graph, tensors: list[Tensor], counts: Tensor) -> Tensor:
    edits = Edits()
    for node in graph.calls:
        if op_name(node) in NORMALISATIONS:
            edits.around[node] = renormalised(node, lambda value: counts.expand_as(value))
    assert edits.around
    return graph.run(tensors, {}, edits)[0]


def test_every_normalisation_has_its_rule_and_its_case() -> None:
    assert set(RULES) == NORMALISATIONS == {name.split(" ")[0].rstrip(",") for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_closed_entries_are_not_there(name: str) -> None:
    graph, (x, w, b) = graph_of(name)
    counts = torch.zeros(WIDTH, dtype=x.dtype).index_fill(0, OPEN, 1)
    found = replay(graph, [x, w, b], counts)
    expected = CASES[name](x[..., OPEN], w[OPEN], b[OPEN])
    found = found[..., OPEN] if found.shape[-1] == WIDTH else found
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (CASES[name](x, w, b)[..., : expected.shape[-1]] - expected).abs().max() > 0.01 * expected.abs().max()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_with_all_open_it_is_the_op_itself(name: str, dtype: torch.dtype) -> None:
    graph, tensors = graph_of(name, dtype)
    found = replay(graph, tensors, torch.ones(WIDTH))
    assert torch.equal(found, graph.run(tensors, {})[0])
    assert found.dtype == dtype


@pytest.mark.parametrize("name", CASES)
def test_it_can_be_differentiated_by_how_far_entries_are_open(name: str) -> None:
    graph, tensors = graph_of(name)
    counts = torch.full((WIDTH,), 0.9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: replay(graph, tensors, each), (counts,))
