"""Relevance beside zennit, Captum and shap: what is missing from the sum, agreement, precision and time.

    python benchmarks/relevance.py [conservation] [agreement] [precision] [speed]

Everything is on the same weights and inputs in one run; peers that are not installed are omitted
(pip install --no-deps zennit captum shap, and shap's slicer, numba and llvmlite).

- `conservation`: a random network of three convolutions with biases, ReLUs, max-pools and a linear layer, float64. The
  gap is |output - sum of the inputs' relevance| / |output|, the mean over samples, as peers leave it, and ours with
  biases and what was absorbed, all returned by the same call.
- `agreement`: the largest difference of the inputs' relevance over its largest, float64, with zennit's epsilon where
  no denominator is near epsilon, shap's DeepExplainer and Captum's integrated gradients.
- `precision`: float32 against float64 through 20 linear layers with ReLUs, ||difference|| / ||relevance|| for each of
  1,000 samples: median and maximum; and the same in float64 for inputs that differ by one rounding to float32: an error
  there is the method's own, whatever the precision.
- `speed`: medians of interleaved runs, as multiples of a forward and a backward pass of the plain module in the same
  run: `loss.backward()` as in training, and in brackets the input's gradient alone. deadhead is on a traced network,
  under `torch.no_grad()`; `differentiable` is the default, whose result autograd can go through.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from machine import print_machine
from networks import Transformer, resnet20
from torch import Tensor, nn

import deadhead as dh

RUNS = 9
OURS = ("lrp", "blame_bias", "lrp_epsilon", "epsilon_plus", "baseline")


def convolutions() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10)).eval()


def wide_convolutions() -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, pool in ((64, True), (128, True), (256, False), (256, True)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, 10)).eval()


class Vectors(nn.Module):
    """A transformer of four layers of width 128 on vectors, with the mean of its positions as output."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.transformer = nn.Linear(48, 128), Transformer(10, width=128, layers=4)
        self.transformer.token = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer(self.enter(x)).mean(1)


def deep(layers: int) -> nn.Module:
    """Linear layers with ReLUs, whose activations keep their size."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        layer = nn.Linear(64, 64)
        nn.init.normal_(layer.weight, std=(2 / 64) ** 0.5)
        nn.init.normal_(layer.bias, std=0.1)
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(64, 10)).eval()


def installed(name: str) -> Any:
    """A peer's module, or None. zennit asks for torchvision, of which only the names of classes are used here."""
    if name == "zennit":
        for part in ("torchvision", "torchvision.models", "torchvision.models.resnet", "torchvision.models.vgg"):
            stand_in = types.ModuleType(part)
            vars(stand_in).update(BasicBlock=type("BasicBlock", (), {}), Bottleneck=type("Bottleneck", (), {}))
            sys.modules.setdefault(part, stand_in)
    try:
        return __import__(name)
    except ImportError:
        print(f"  {name} is not installed")
        return None


def by_zennit(kind: str, model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    if installed("zennit") is None:
        return None
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus, LayerMapComposite
    from zennit.rules import Epsilon
    from zennit.types import AvgPool, Convolution, Linear

    if kind == "epsilon":
        composite = LayerMapComposite([((Convolution, Linear, AvgPool), Epsilon(1e-6))])
    else:
        composite = EpsilonPlus()

    def explained(x: Tensor) -> Tensor:
        with Gradient(model=model, composite=composite) as attributor:
            output = model(x)[:, 0].detach()
            start = torch.zeros(len(x), 10, dtype=x.dtype)
            start[:, 0] = output
            return attributor(x, start)[1]

    return explained


def by_captum(kind: str, model: nn.Module, steps: int = 50) -> Callable[[Tensor], Tensor] | None:
    if installed("captum") is None:
        return None
    from captum.attr import DeepLift, IntegratedGradients

    if kind == "DeepLift":
        its = copy.deepcopy(model)
        return lambda x: DeepLift(its).attribute(x, torch.zeros_like(x), target=0).detach()
    return lambda x: IntegratedGradients(model).attribute(
        x, torch.zeros_like(x), target=0, n_steps=steps, method="gausslegendre"
    )


def by_shap(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    shap = installed("shap")
    if shap is None:
        return None

    def explained(x: Tensor) -> Tensor:
        explainer = shap.DeepExplainer(copy.deepcopy(model), torch.zeros_like(x[:1]))
        values = explainer.shap_values(x.clone(), check_additivity=False)
        return torch.as_tensor(values[..., 0] if not isinstance(values, list) else values[0])

    return explained


def gap(output: Tensor, *parts: Tensor) -> float:
    rest = output - sum(part.flatten(1).sum(1) if part.dim() > 1 else part for part in parts)
    return (rest.abs() / output.abs()).mean().item()


def conservation() -> None:
    print("conservation: |output - what sums to it| / |output|, three convolutions with biases, float64")
    torch.manual_seed(0)
    model = convolutions().double()
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.bias, std=0.1)
    x = torch.rand(64, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        output = model(x)[:, 0]
        difference = output - model(torch.zeros_like(x))[:, 0]
    peers = {
        "zennit, epsilon": (by_zennit("epsilon", model), output),
        "zennit, epsilon plus": (by_zennit("plus", model), output),
        "Captum, DeepLift": (by_captum("DeepLift", model), difference),
        "shap, DeepExplainer": (by_shap(model), difference),
        "Captum, integrated gradients": (by_captum("gradients", model), difference),
    }
    for label, (explained, whole) in peers.items():
        if explained is not None:
            print(f"  {label:32}{gap(whole, explained(x)):10.1e}")
    network = dh.trace(model, x)
    for method in (*OURS, "integrated_gradients"):
        with torch.no_grad():
            found = dh.attribute(network, x, 0, method)
        whole = gap(found.output, found.inputs, *found.biases.values(), found.absorbed)
        alone = gap(found.output, found.inputs)
        print(f"  {'deadhead, ' + method:32}{whole:10.1e}   (inputs alone {alone:.1e})")


def agreement() -> None:
    print("agreement: the largest difference over the largest relevance, float64")

    def furthest(a: Tensor, b: Tensor) -> str:
        return f"{((a - b).abs().max() / b.abs().max()).item():.1e}"

    def ours(model: nn.Module, method: str, **options: Any) -> Tensor:
        with torch.no_grad():
            return dh.attribute(model, x, 0, method, **options).inputs

    torch.manual_seed(0)
    x = torch.rand(16, 3, 32, 32, dtype=torch.float64)
    model = convolutions().double()
    zennit = by_zennit("epsilon", model)
    if zennit is not None:
        print(f"  lrp_epsilon, zennit's epsilon                      {furthest(ours(model, 'lrp_epsilon'), zennit(x))}")
    smooth = nn.Sequential(*(nn.AvgPool2d(2) if isinstance(each, nn.MaxPool2d) else each for each in model)).eval()
    shap = by_shap(smooth)
    if shap is not None:
        print(f"  baseline, shap's DeepExplainer                     {furthest(ours(smooth, 'baseline'), shap(x))}")
    deep_lift = by_captum("DeepLift", smooth)
    if deep_lift is not None:
        print(
            f"  baseline, Captum's DeepLift (no max-pool)          {furthest(ours(smooth, 'baseline'), deep_lift(x))}"
        )
    captum = by_captum("gradients", model, 64)
    if captum is not None:
        found = ours(model, "integrated_gradients", steps=64)
        print(f"  integrated_gradients, Captum's, 64 steps each      {furthest(found, captum(x))}")


def precision() -> None:
    print("precision: float32 against float64 through 20 layers, normwise: median and largest of 1,000 samples;")
    print("  float64 at inputs moved by a rounding to float32")
    torch.manual_seed(0)
    model = deep(20)
    exact = copy.deepcopy(model).double()
    x = torch.randn(1000, 64)
    networks = dh.trace(model, x), dh.trace(exact, x.double())

    def ours(network: dh.Network, method: str, x: Tensor) -> Tensor:
        return dh.attribute(network, x, 0, method).inputs

    ways = {method: [partial(ours, network, method) for network in networks] for method in ("gradient_x_input", *OURS)}
    zennit = [by_zennit("epsilon", model), by_zennit("epsilon", exact)]
    if None not in zennit:
        ways["zennit, epsilon"] = zennit
    for label, (rounded, reference) in ways.items():
        whole, found = reference(x.double()).detach(), rounded(x).detach().double()
        moved = reference(x.double() * (1 + 2**-24 * torch.randn(x.shape, dtype=torch.float64).sign())).detach()
        print(f"  {label:32}", end="")
        for other in (found, moved):
            apart = (other - whole).flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1)
            print(f"{apart.median().item():10.1e}{apart.max().item():10.1e}", end="    ")
        print()


def speed() -> None:
    print("speed: multiples of a plain forward and backward pass (of one to the input alone), medians")
    networks = {
        "3 convolutions, 32 x 3x32x32": (convolutions(), (32, 3, 32, 32)),
        "4 wide convolutions, 16 x 3x32x32": (wide_convolutions(), (16, 3, 32, 32)),
        "ResNet-20, 32 x 3x32x32": (resnet20().eval(), (32, 3, 32, 32)),
        "transformer, 16 x 64 vectors": (Vectors().eval(), (16, 64, 48)),
    }
    for name, (model, shape) in networks.items():
        print(f"  {name}")
        torch.manual_seed(0)
        show_speed(model, torch.randn(shape))


def show_speed(model: nn.Module, x: Tensor) -> None:
    network = dh.trace(model, x)

    def plain() -> None:
        model.zero_grad()
        model(x.clone().requires_grad_())[:, 0].sum().backward()

    def gradient() -> None:
        given = x.clone().requires_grad_()
        torch.autograd.grad(model(given)[:, 0].sum(), given)

    def ours(method: str, differentiable: bool = False) -> None:
        with torch.set_grad_enabled(differentiable):
            dh.attribute(network, x, 0, method)

    ways: dict[str, Callable[[], object]] = {method: partial(ours, method) for method in OURS}
    ways["blame_bias, differentiable"] = partial(ours, "blame_bias", True)
    peers = {
        "zennit, epsilon": by_zennit("epsilon", model),
        "zennit, epsilon plus": by_zennit("plus", model),
        "Captum, DeepLift": by_captum("DeepLift", model) if isinstance(model, nn.Sequential) else None,
    }
    ways |= {label: partial(explained, x) for label, explained in peers.items() if explained is not None}
    for label, way in ways.items():
        ratios = []
        for _ in range(RUNS + 2):
            marks = [time.perf_counter()]
            for function in (plain, gradient, way):
                function()
                marks.append(time.perf_counter())
            both, alone, its = (b - a for a, b in itertools.pairwise(marks))
            ratios.append((its / both, its / alone))
        first, second = (statistics.median(column) for column in zip(*ratios[2:], strict=True))
        print(f"    {label:30}{first:6.2f}  ({second:.2f})", flush=True)


PARTS = {"conservation": conservation, "agreement": agreement, "precision": precision, "speed": speed}


def main() -> None:
    unknown = [name for name in sys.argv[1:] if name not in PARTS]
    if unknown:
        sys.exit(f"There is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}.")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print_machine()
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main()
