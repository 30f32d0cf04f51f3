"""Sequences, sets, tables and graphs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.entry import add, real, several, whole


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 1)
        self.filters = nn.ModuleList(nn.Conv1d(8, 10 + i, 2, dilation=2**i) for i in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(8, 10 + i, 2, dilation=2**i) for i in range(3))
        self.residuals = nn.ModuleList(nn.Conv1d(10 + i, 8, 1) for i in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(10 + i, 14, 1) for i in range(3))
        self.end1, self.end2 = nn.Conv1d(14, 9, 1), nn.Conv1d(9, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total: Tensor | int = 0
        for i, (conv, gate, residual, skip) in enumerate(
            zip(self.filters, self.gates, self.residuals, self.skips, strict=True)
        ):
            padded = F.pad(x, (2**i, 0))
            y = torch.tanh(conv(padded)) * torch.sigmoid(gate(padded))
            total = total + skip(y)
            x = x + residual(y)
        return self.end2(F.relu(self.end1(F.relu(total))))


class Siamese(nn.Module):
    """One tower used twice; how far apart its two outputs are, and a head on both."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 14), nn.ReLU(), nn.Linear(14, 9))
        self.head = nn.Linear(27, 5)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.tower(a), self.tower(b)
        return self.head(torch.cat([a, b, (a - b).abs()], 1)), F.cosine_similarity(a, b)


class FactorisationMachine(nn.Module):
    """Embedded fields and a bag of tags, all products of two of them, and a network on top."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(size, 8) for size in (5, 6, 7))
        self.tags = nn.EmbeddingBag(11, 8, mode="mean")
        self.first = nn.ModuleList(nn.Embedding(size, 1) for size in (5, 6, 7))
        self.deep = nn.Sequential(nn.Linear(32, 18), nn.ReLU(), nn.Linear(18, 10), nn.ReLU(), nn.Linear(10, 1))

    def forward(self, fields: Tensor, tags: Tensor) -> Tensor:
        found = [embed(fields[:, i]) for i, embed in enumerate(self.fields)]
        x = torch.stack([*found, self.tags(tags)], dim=1)
        pairs = 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1, keepdim=True)
        linear = torch.stack([embed(fields[:, i]) for i, embed in enumerate(self.first)]).sum(0)
        return torch.sigmoid(linear + pairs + self.deep(x.flatten(1)))


class TwoTowers(nn.Module):
    """A recommender: embedded people and things, a layer on each, the product of the two, and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.people, self.things = nn.Embedding(11, 9), nn.Embedding(13, 10)
        self.left, self.right = nn.Linear(9, 12), nn.Linear(10, 12)
        self.people_bias, self.things_bias = nn.Embedding(11, 1), nn.Embedding(13, 1)

    def forward(self, people: Tensor, things: Tensor) -> Tensor:
        score = (F.relu(self.left(self.people(people))) * self.right(self.things(things))).sum(-1)
        return score + self.people_bias(people).squeeze(-1) + self.things_bias(things).squeeze(-1)


class GraphNet(nn.Module):
    """Two graph convolutions with a dense adjacency matrix, one attention over neighbours, a mean over nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 12), nn.Linear(12, 14)
        self.near, self.far = nn.Linear(14, 1), nn.Linear(14, 1)
        self.three = nn.Linear(14, 10)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        adjacency = (adjacency > 0).to(x.dtype) + torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        normal = adjacency / adjacency.sum(-1, keepdim=True)
        x = F.relu(normal @ self.one(x))
        x = F.relu(torch.bmm(normal, self.two(x)))
        scores = F.leaky_relu(self.near(x) + self.far(x).transpose(1, 2), 0.2)
        weights = scores.masked_fill(adjacency == 0, -1e9).softmax(-1)
        return self.fc(F.elu(weights @ self.three(x)).mean(1))


class PointNet(nn.Module):
    """A set of points: shared layers, the largest value of each feature, and a rotation that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 9, 1))
        self.features = nn.Sequential(nn.Conv1d(3, 10, 1), nn.BatchNorm1d(10), nn.ReLU(), nn.Conv1d(10, 20, 1))
        self.fc = nn.Sequential(nn.Linear(20, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 7))

    def forward(self, x: Tensor) -> Tensor:
        turn = torch.max(self.turn(x), 2)[0].view(-1, 3, 3) + torch.eye(3, dtype=x.dtype, device=x.device)
        x = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        return self.fc(torch.max(self.features(x), 2, keepdim=True)[0].view(x.size(0), -1))


add("wavenet", WaveNet, real(1, 16))
add("siamese", Siamese, several(real(12), real(12)))
add("factorisation_machine", FactorisationMachine, several(whole(5, 3), whole(11, 4)))
add("two_towers", TwoTowers, several(whole(11), whole(13)))
add("graph", GraphNet, several(real(6, 5), real(6, 6)))
add("pointnet", PointNet, real(3, 15))
