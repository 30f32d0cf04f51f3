"""Relevance is conserved at every cut: what crosses it, the biases behind it and what was absorbed make the output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.graph.network import Network
from support.networks import Flat, Residual, TwoReaders, unit_gain
from support.quick import each_of
from zoo import test_zoo as zoo

pytestmark = pytest.mark.traced_anew  # graphs are written to, and their sizes are asked for

CLAIMED = ("lrp", "lrp_epsilon", "epsilon_plus", "blame_bias", "baseline")
ROUNDING = 1e-12


class InPlace(nn.Module):
    """In-place ops, functional calls, a module used twice, and a parameter and a number that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.twice = nn.Linear(5, 5)
        self.shift = nn.Parameter(torch.randn(5))
        self.weight = nn.Parameter(torch.randn(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.relu_()
        x = F.relu(self.twice(x), inplace=True)
        x = self.twice(x) + x
        x += self.shift
        return F.linear(torch.tanh(x) + 0.5, self.weight)


class Pools(nn.Module):
    """A ReLU right before an overlapping max-pool, an average pool, a concatenation of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(2, 3, 1)
        self.c = nn.Conv2d(7, 5, 3, stride=2)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = F.max_pool2d(F.relu(self.a(x)), 3, stride=1, padding=1)
        b = F.avg_pool2d(F.max_pool2d(self.b(x), 2, 1, padding=1), 2, 1)
        x = F.gelu(self.c(torch.cat([a, b], 1)))
        return self.fc(F.adaptive_avg_pool2d(F.max_pool2d(x, 2, 1), 1).flatten(1))


class Branches(nn.Module):
    """A constant token, a product with a gate, a choice by a mask, a maximum of two values and with a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.gate, self.read = nn.Linear(4, 4), nn.Linear(4, 4)
        self.floor = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = torch.sigmoid(self.gate(x)) * self.read(x)
        x = torch.maximum(torch.where(x > 0.3, x, self.floor), x.flip(1))
        x = torch.maximum(x - 0.4 * self.floor, self.floor).masked_fill(x < -1, 0.25)
        x = torch.addcmul(1 - x, x, self.floor, value=0.5) + torch.sub(self.floor, x, alpha=0.3)
        return (x / (1 + x.square().sum(-1, keepdim=True))).mean(1)


class Written(nn.Module):
    """Numbers that are written beside, over and among what carries relevance, and one that a maximum never takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.first(x), (1, 2), value=0.7)
        x = x.scatter(1, torch.zeros(x.shape[0], 2, dtype=torch.long), 1.5).index_fill(1, torch.tensor([3]), -0.5)
        return self.last(F.max_pool1d(F.pad(x, (1, 1), value=-torch.inf)[:, None], 3, 1)[:, 0])


class Chosen(nn.Module):
    """Values in an order of their own, which is another one under a baseline."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x.topk(3).values + 2 * x.sort(-1).values[:, 1:4])


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "flat": (Flat, (2, 6, 6)), "residual": (Residual, (2, 5, 5)), "two readers": (TwoReaders, (3,)),
    "in place": (InPlace, (4,)), "pools": (Pools, (2, 6, 6)), "branches": (Branches, (3, 4)),
    "written": (Written, (6,)), "chosen": (Chosen, (4,)),
}  # fmt: skip


def largest_gap(found: dh.Relevance) -> float:
    """The largest residual of a cut, relative to the absolute relevances there."""
    assert len(found.cuts) > 3
    nothing = torch.finfo(torch.float64).tiny  # a sample that is its own baseline
    return max(float((cut.residual.abs() / (cut.size + nothing)).max()) for cut in found.cuts.values())


def check(found: dh.Relevance) -> None:
    assert largest_gap(found) < ROUNDING
    assert (found.output.abs() > 1e-3).any()


@pytest.mark.parametrize("method", CLAIMED)
@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_conserve_at_every_cut(name: str, method: str) -> None:
    make, shape = NETWORKS[name]
    model = unit_gain(make(), seed=2)
    x = torch.randn(4, *shape, dtype=torch.float64)
    with torch.no_grad():
        found = dh.attribute(model, x, None, method, cuts=True)
    check(found)
    with torch.no_grad():
        largest = model(x).amax(1)
        blank = model(0 * x).gather(1, model(x).argmax(1, keepdim=True))[:, 0] if method == "baseline" else 0.0
    torch.testing.assert_close(found.output, largest - blank, rtol=1e-12, atol=1e-12)
    size = next(reversed(found.cuts.values())).size
    assert bool((found.residual.abs() <= ROUNDING * size).all())
    biases = sum((each.reshape(4, -1).sum(1) for each in found.biases.values()), torch.zeros(4, dtype=torch.float64))
    inputs = found.inputs.flatten(1).sum(1)
    torch.testing.assert_close(inputs + biases + found.absorbed, found.output, rtol=1e-9, atol=1e-9)
    if method == "blame_bias":
        assert not found.absorbed.any() or name == "branches"
        assert found.biases


def wide(network: Network, tensors: list[Tensor]) -> None:
    """Let a network's graph cast to float64 where its model casts to float32: rounding is then that of float64."""
    for node in network.traced(tensors).graph.calls:
        node.args = tuple(torch.float64 if each is torch.float32 else each for each in node.args)
        node.kwargs = {key: torch.float64 if each is torch.float32 else each for key, each in node.kwargs.items()}


ZOO = [
    "plain/alexnet", "plain/vgg_norm", "plain/resnet_bottleneck", "plain/densenet", "plain/googlenet",
    "plain/mobilenet_v3", "plain/efficientnet", "plain/convnext", "plain/shufflenet_v2", "plain/unet", "plain/deeplab",
    "plain/vit", "plain/swin", "plain/maxvit", "plain/mixer", "plain/attention_sequence_first",
    "plain/transformer_encoder_padded", "plain/transformer_decoder", "plain/lstm", "plain/own_gru", "plain/gated_glu",
    "plain/experts_listed", "plain/experts_stacked", "plain/wavenet", "plain/factorisation_machine", "plain/pointnet",
    "plain/capsules", "plain/state_space", "plain/soft_forest", "plain/fourier", "plain/hypernetwork", "plain/tied",
    "plain/super_resolution", "plain/siamese", "plain/coupling_flow",
    *(f"huggingface/{name}" for name in (
        "bert", "roberta", "albert", "deberta_v2", "squeezebert", "modernbert", "gpt2", "gpt_neo", "bloom", "falcon",
        "llama", "qwen3", "gemma2", "phi3", "mamba", "mamba2", "t5", "bart", "whisper", "wav2vec2", "vit", "dinov2",
        "swinv2", "convnextv2", "resnet", "segformer", "levit", "mobilevit", "mixtral", "gpt_neox")),
]  # fmt: skip


QUICK = (
    "plain/alexnet", "plain/densenet", "plain/unet", "plain/mixer", "plain/attention_sequence_first", "plain/own_gru",
    "plain/experts_stacked", "plain/state_space", "plain/soft_forest", "plain/tied", "plain/siamese",
    "huggingface/bert", "huggingface/gpt2", "huggingface/vit", "huggingface/resnet",
)  # fmt: skip
"""Architectures that share no rule, of each the quickest."""


@pytest.mark.parametrize("name", each_of(ZOO, QUICK))
def test_the_zoo_conserves_at_every_cut(name: str) -> None:
    model = zoo.fresh(name).double()
    if hasattr(getattr(model, "config", None), "_experts_implementation"):
        model.config._experts_implementation = "batched_mm"  # the grouped one knows no float64
    inputs = zoo.inputs_of(name, 3)
    if isinstance(inputs, dict):
        inputs = {key: each.double() if each.is_floating_point() else each for key, each in inputs.items()}
    network = dh.trace(model, inputs, batch_axis=zoo.axis_of(name))
    wide(network, network.flatten(inputs))

    def target(outputs: Any) -> Tensor:
        first = next(zoo.floats(outputs))
        first = first if first.shape[0] in (1, 3) else first.movedim(1, 0)
        return first.reshape(len(first), -1)[:, :4].sum(1)

    for method in CLAIMED:
        with torch.no_grad():
            found = dh.attribute(network, inputs, target, method, cuts=True)
        assert largest_gap(found) < ROUNDING, method
        if method == "blame_bias":
            with torch.no_grad():
                wanted = target(network.run_module(inputs))
            tolerance = 1e-4 * float(wanted.abs().max())
            torch.testing.assert_close(found.output, wanted.double(), rtol=0, atol=tolerance)
            assert bool(found.biases) or not any(each.endswith("bias") for each, _ in model.named_parameters())


def test_the_test_sees_relevance_that_is_lost() -> None:
    """Methods that do not conserve relevance leave a residual."""
    model = unit_gain(Flat())
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    for method in ("gradient", "deconvnet", "guided", "gradient_x_input"):
        found = dh.attribute(model, x, 0, method, cuts=True)
        assert largest_gap(found) > 1e-3, method
        assert (found.residual.abs() > 1e-3).any(), method
