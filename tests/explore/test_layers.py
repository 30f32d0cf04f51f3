"""Layered graphs: every unit is a node, every weight between two of them an edge, whatever the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.errors import DataError
from deadhead.explore import draw_layers, layered_graph
from deadhead.lab.models import small_cnn


class Residual(nn.Module):
    """A residual stream behind a normalisation: what is fixed, and what has no label behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(4, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.c, self.d = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.norm(x + torch.relu(self.b(x)))
        return self.d(torch.relu(self.c(x)))


@pytest.fixture(scope="module")
def cnn() -> dh.Network:
    return dh.trace(small_cnn(seed=0), torch.rand(2, 1, 28, 28))


def test_a_cnn_has_a_node_for_each_channel_and_unit_and_an_edge_for_each_pair(cnn: dh.Network) -> None:
    graph = layered_graph(cnn)
    assert graph.graph["layers"] == ["inputs", "conv1", "conv2", "fc1", "fc2"]
    assert graph.number_of_nodes() == 1 + 8 + 16 + 64 + 10
    assert graph.number_of_edges() == 1 * 8 + 8 * 16 + 16 * 64 + 64 * 10
    assert [graph.nodes[name, 0]["kind"] for name in graph.graph["layers"]] == [
        "input", "channel", "channel", "unit", "fixed",
    ]  # fmt: skip


def test_an_edge_is_the_norm_of_the_weights_between_two_units_also_behind_a_flatten(cnn: dh.Network) -> None:
    graph, module = layered_graph(cnn), cnn.module
    assert isinstance(module, nn.Sequential)
    kernel = module.conv2.weight[5, 3].detach().double()
    block = module.fc1.weight[7].detach().double().reshape(16, 16)[4]  # channel 4 at its 4x4 positions
    assert graph.edges[("conv1", 3), ("conv2", 5)]["weight"] == pytest.approx(float(kernel.norm()))
    assert graph.edges[("conv2", 4), ("fc1", 7)]["weight"] == pytest.approx(float(block.norm()))
    assert graph.edges[("fc1", 9), ("fc2", 2)]["weight"] == pytest.approx(abs(module.fc2.weight[2, 9].item()))


def test_coupled_layers_are_one_column_and_a_normalisation_does_not_break_the_graph() -> None:
    network = dh.trace(Residual(), torch.rand(2, 4))
    graph = layered_graph(network)
    assert graph.graph["layers"] == ["inputs", "a", "c", "d"]
    within = [(one, other) for one, other in graph.edges if one[0] == other[0]]
    assert len(within) == 8 * 7  # b, from one unit of the stream to another
    assert graph.number_of_edges() == 4 * 8 + 8 * 7 + 8 * 12 + 12 * 3
    weight = network.module.get_parameter("c.weight")[10, 6]
    assert graph.edges[("a", 6), ("c", 10)]["weight"] == pytest.approx(abs(weight.item()))


def test_scores_and_removed_units_stand_at_their_nodes(cnn: dh.Network) -> None:
    scores = {"conv1": torch.arange(8.0)}
    graph = layered_graph(cnn, scores, {"conv1": [2], "fc1": torch.tensor([63])})
    assert [graph.nodes["conv1", i]["score"] for i in range(8)] == list(range(8))
    assert graph.nodes["conv2", 0]["score"] is None
    assert [node for node, removed in graph.nodes(data="removed") if removed] == [("conv1", 2), ("fc1", 63)]
    with pytest.raises(DataError, match="no group 'conv9' to draw; the groups are conv1, conv2, fc1"):
        layered_graph(cnn, {"conv9": torch.zeros(3)})
    with pytest.raises(DataError, match=r"units 0 to 7; \[8\] has others"):
        layered_graph(cnn, removed={"conv1": [8]})
    with pytest.raises(DataError, match="has 8 units, and 3 scores"):
        layered_graph(cnn, {"conv1": torch.zeros(3)})


def test_a_picture_says_how_many_units_remain_and_are_shown(cnn: dh.Network, tmp_path: Path) -> None:
    graph = layered_graph(cnn, {"fc1": torch.rand(64)}, {"conv1": [0, 1, 2]})
    figure = draw_layers(graph, tmp_path / "layers.png", most=20, label="MRS")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["inputs\n1", "conv1\n5 of 8", "conv2\n16", "fc1\n64, 20 shown", "fc2\n10"]
    assert figure.axes[1].get_ylabel() == "MRS / largest of the layer"
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    crossed = [each for each in figure.axes[0].collections if len(each.get_offsets()) == 3]
    assert crossed, "the three removed channels are not marked"
    with pytest.raises(DataError, match="at least 1"):
        draw_layers(graph, most=0)
