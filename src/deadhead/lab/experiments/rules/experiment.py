"""Relevance rules on random networks: what holds to rounding, what breaks it, and where denominators go wrong."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.graph.network import Network, trace
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.rules.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.rules.figures import PICTURES
from deadhead.lab.experiments.rules.maxima import maxima
from deadhead.lab.experiments.rules.near_zero import blank, near_zero, redraw, scale_biases
from deadhead.lab.experiments.rules.plain import layer_by_layer, off
from deadhead.progress import Progress, track
from deadhead.relevance import Composite, Relevance, attribute, named_composite
from deadhead.relevance.rules import Deconvnet, Epsilon, Gradient, Pass, RadialMaximum, RelevanceRule, Rescale

MATRIX: dict[str, RelevanceRule] = {"gradient": Gradient(), "normalised": Epsilon(0.01)}
NONLINEARITY: dict[str, RelevanceRule] = {
    "ignore": Pass(),
    "gradient": Gradient(),
    "slope": Rescale(),
    "repeat": Deconvnet(),
}
MAXIMUM: dict[str, RelevanceRule] = {"gradient": Gradient(), "radial": RadialMaximum()}
"""The essay's rules, by its names."""


@dataclass(frozen=True)
class Rules:
    """Settings; the essay has no experiment, so that all are choices.

    Args:
        width: inputs and units of each of three hidden layers.
        outputs: of each network.
        image: pixels along each side of the images of the convolutional network.
        channels: of its two convolutions of 3x3, each with ReLU and max-pool.
        samples: normal inputs of each network.
        networks: whose weights are drawn anew, as PyTorch draws them by default.
        scales: factors of the biases.
        planted: units of the first layer whose sums are made small.
        sums: what they are made to be; the claim is judged at the fourth.
        blip: the stabiliser of the normalised rule, for comparison: a thousandth of a usual sum.
        pairs: of random values, whose maximum is taken.
        softness: of the soft maximum.
    """

    width: int = 30
    outputs: int = 5
    image: int = 14
    channels: int = 6
    samples: int = 100
    networks: int = 10
    scales: tuple[float, ...] = (1.0, 4.0, 16.0)
    planted: int = 10
    sums: tuple[float, ...] = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7)
    blip: float = 1e-4
    pairs: int = 1000
    softness: float = 1e-3


QUICK = {"width": 8, "image": 10, "channels": 2, "samples": 12, "networks": 1, "planted": 3, "pairs": 100}


@experiment("rules", Rules, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY)
def rules(settings: Rules, seed: int, progress: Progress | None) -> dict[str, Any]:
    """What relevance rules conserve and which of them are the same, on random networks in float64, each equality with a
    control that must break it; and what becomes of them near zero and under large biases.

    The library's rules are compared with the essay's formulas, written layer by layer in plain tensors.

    Args:
        settings: see `Rules`.
        seed: of weights and inputs.
        progress: called after each network.

    Returns:
        The largest errors over networks, and the curves of the figures.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum.
    """
    s = settings
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        nets = _networks(s)
        trials = []
        for _ in track(progress, "rules", range(s.networks)):
            for net in nets.values():
                redraw(net.module)
            inputs = {name: _inputs(s, name) for name in nets}
            trials.append(_trial(s, nets, inputs))
        found: dict[str, Any] = {key: _whole(key, [each[key] for each in trials]) for key in trials[0]}
        found |= _superposition(s, nets["convolution"], _inputs(s, "convolution"))
        found |= near_zero(nets["relu"], s.samples, s.planted, s.sums, s.blip)
        found |= blank(nets["convolution"], _inputs(s, "convolution"))
        found |= maxima(s.pairs, s.softness)
    at, rises = found["lrp_blowup"], zip(found["lrp_blowup"][1:], found["lrp_blowup"], strict=False)
    found["lrp_over_blame"] = at[-1] / found["blame_bias_blowup"][-1]
    found["lrp_rise"] = min(later / earlier for later, earlier in rises)
    return found | {"bias_scales": list(s.scales), "blip": s.blip}


def _networks(s: Rules) -> dict[str, Network]:
    """Networks of float64, traced once; their weights are drawn anew in place."""
    wide = (s.width, s.width)

    def dense(activation: type[nn.Module]) -> nn.Module:
        hidden = [each for _ in range(3) for each in (nn.Linear(*wide), activation())]
        return nn.Sequential(*hidden, nn.Linear(s.width, s.outputs)).double()

    side = ((s.image - 2) // 2 - 2) // 2
    convolution = nn.Sequential(
        nn.Conv2d(1, s.channels, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(s.channels, s.channels, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(s.channels * side**2, s.outputs),
    ).double()  # fmt: skip
    modules = {"relu": dense(nn.ReLU), "tanh": dense(nn.Tanh), "sigmoid": dense(nn.Sigmoid), "convolution": convolution}
    modules["one sigmoid"] = nn.Sequential(nn.Linear(*wide), nn.Sigmoid(), nn.Linear(s.width, s.outputs)).double()
    modules["rewritten"] = nn.Sequential(
        nn.Linear(*wide), nn.Tanh(), nn.Linear(*wide), nn.Linear(s.width, s.outputs)
    ).double()  # the same with f(0) as the bias of a layer: 0.5 + 0.5 tanh(x / 2)
    return {name: trace(module, _inputs(s, name)[:2]) for name, module in modules.items()}


def _inputs(s: Rules, name: str) -> Tensor:
    shape = (1, s.image, s.image) if name == "convolution" else (s.width,)
    return torch.randn(s.samples, *shape, dtype=torch.float64)


def _trial(s: Rules, nets: dict[str, Network], inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Errors of one network of each kind."""
    found = _slopes(nets, inputs) | _biases(s, nets, inputs) | _symmetry(nets, inputs)
    for net in nets.values():
        scale_biases(net.module, 0.0)
    return found | _without_biases(nets, inputs)


def _whole(key: str, values: list[Any]) -> Any:
    """Over networks: the largest error; of a list for each scale, the 99th percentile over all samples."""
    if key.endswith("_blowup"):
        return [float(torch.tensor(each).flatten().quantile(0.99)) for each in zip(*values, strict=True)]
    return max(values)


def _chosen(matrix: RelevanceRule, nonlinearity: RelevanceRule, maximum: RelevanceRule) -> Composite:
    linear = dict.fromkeys(("linear", "convolution", "sum"), matrix)
    return named_composite("lrp").but({**linear, "nonlinearity": nonlinearity, "maximum": maximum})


def _slopes(nets: dict[str, Network], inputs: dict[str, Tensor]) -> dict[str, Any]:
    """How far slope is from gradient: by the library, and by quotients in plain tensors."""
    apart = {}
    for name in ("relu", "convolution", "tanh"):
        net, x = nets[name], inputs[name]
        slope, gradient = (
            attribute(net, x, 0, _chosen(Gradient(), rule, Gradient())).inputs for rule in (Rescale(), Gradient())
        )
        values, q = layer_by_layer(net.module, x, 0, "Q")
        apart[name] = max(off(slope, gradient), off(values[0] * q[0], gradient))
    return {"slope_error": max(apart["relu"], apart["convolution"]), "tanh_slope_error": apart["tanh"]}


def _without_biases(nets: dict[str, Network], inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Conservation, and the forms R and Q of LRP against each other, where biases are zero."""
    found: dict[str, list[float]] = {key: [] for key in ("conserved", "q_form", "sums", "ends", "broken", "bare")}
    for name in ("relu", "tanh", "convolution"):
        net, x = nets[name], inputs[name]
        paths = [str(i) for i, each in enumerate(_layers(net)) if not isinstance(each, nn.Flatten)]
        lrp = attribute(net, x, 0, "lrp", cuts=True, layers=paths)
        values, r = layer_by_layer(net.module, x, 0, "R")
        _, q = layer_by_layer(net.module, x, 0, "Q")
        found["conserved"] += [_gap(lrp), float((lrp.absorbed.abs() / lrp.output.abs()).max())]
        library = {0: lrp.inputs, **{int(path) + 1: each for path, each in lrp.layers.items()}}
        for i, (a, own_r, own_q) in enumerate(zip(values, r, q, strict=True)):
            found["q_form"].append(off(a * own_q, own_r, a.abs() > 1e-3))
            found["q_form"] += [off(library[i], own_r, a.abs() > 1e-3)] if i in library else []
            found["sums"].append(_sum_error(a * own_q, lrp.output))
        found["ends"].append(off(lrp.inputs, r[0]))
        found["bare"].append(off(q[0], r[0]))
        gradient = attribute(net, x, 0, "gradient").inputs * lrp.output.reshape(-1, *[1] * (x.dim() - 1))
        found["broken"].append(_sum_error(gradient, lrp.output))
    wrong = attribute(nets["tanh"], inputs["tanh"], 0, _chosen(Gradient(), Gradient(), Gradient()))
    right = attribute(nets["tanh"], inputs["tanh"], 0, "lrp")
    return {
        "conservation_error": max(found["conserved"]),
        "gradient_sum_error": min(found["broken"]),
        "q_form_error": max(found["q_form"]),
        "q_sum_error": max(found["sums"]),
        "gradient_form_error": off(wrong.inputs, right.inputs),
        "gradient_form_sum_error": _sum_error(wrong.inputs, right.output),
        "ends_error": max(found["ends"]),
        "no_input_factor_error": min(found["bare"]),
    }


def _layers(net: Network) -> Sequence[nn.Module]:
    return list(net.module.children())


def _gap(found: Relevance) -> float:
    """The largest residual over cuts and samples, as a share of all relevance there."""
    return max(float((cut.residual.abs() / cut.size).max()) for cut in found.cuts.values())


def _sum_error(relevance: Tensor, output: Tensor) -> float:
    flat = relevance.flatten(1)
    return float(((flat.sum(1) - output).abs() / flat.abs().sum(1)).max())


def _biases(s: Rules, nets: dict[str, Network], inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Ones for biases on a sigmoid network, and how large relevance grows with the biases of a ReLU network."""
    net, x = nets["sigmoid"], inputs["sigmoid"]
    each, all_one = (attribute(net, x, 0, "blame_bias", cuts=True, constants=kind) for kind in ("each", "all"))
    size = each.cuts["outputs"].size
    summed = sum(part.flatten(1).sum(1) for part in each.biases.values())
    shared = float(((all_one.biases["one"] - summed).abs() / size).max())
    left = float(((each.inputs.sum(1) - each.output).abs() / size).max())
    found: dict[str, Any] = {
        "ones_error": max(_gap(each), _gap(all_one), shared, _value_at_zero(nets["one sigmoid"], nets["rewritten"], x)),
        "without_ones_error": left,
    }
    methods: dict[str, Any] = {"lrp": "lrp", "lrp_epsilon": Epsilon(s.blip), "blame_bias": "blame_bias"}
    net, x = nets["relu"], inputs["relu"]
    for name, method in methods.items():
        composite = method if isinstance(method, str) else _chosen(method, Rescale(), Gradient())
        found[f"{name}_blowup"] = []
        for before, scale in zip((1.0, *s.scales), s.scales, strict=False):
            scale_biases(net.module, scale / before)
            made = attribute(net, x, None, composite)
            parts = [made.inputs, *(made.biases.values() if name != "lrp" else ())]
            size = torch.stack([part.flatten(1).abs().sum(1) for part in parts]).sum(0)
            found[f"{name}_blowup"].append((size / made.output.abs()).tolist())
        scale_biases(net.module, 1 / s.scales[-1])
    return found


def _value_at_zero(one: Network, two: Network, x: Tensor) -> float:
    """How far the relevance of a sigmoid's f(0) is from that of the bias 0.5 in 0.5 + 0.5 tanh(x / 2)."""
    sigmoid, written = one.module.state_dict(), two.module.state_dict()
    halves = {name: each / 2 for name, each in sigmoid.items() if name.startswith("0.")}
    affine = {"2.weight": torch.eye(len(written["2.bias"])) / 2, "2.bias": torch.full_like(written["2.bias"], 0.5)}
    last = {f"3.{part}": sigmoid[f"2.{part}"] for part in ("weight", "bias")}
    two.module.load_state_dict({**halves, **affine, **last})
    own, explicit = (attribute(each, x, 0, "blame_bias").biases for each in (one, two))
    return off(own["1"], explicit["2.bias"])


def _symmetry(nets: dict[str, Network], inputs: dict[str, Tensor]) -> dict[str, Any]:
    """How far contributions are from changing sign alone when input and baseline change places."""
    swapped, broken = [], []
    for name in ("relu", "sigmoid", "convolution"):
        net, x = nets[name], inputs[name]
        other = x.flip(0)
        there, back = attribute(net, x, 0, "baseline", baseline=other), attribute(net, other, 0, "baseline", baseline=x)
        swapped.append(off(there.inputs, -back.inputs))
        at_x, at_other = (attribute(net, each, 0, "gradient").inputs for each in (x, other))
        broken.append(off((x - other) * at_x, (x - other) * at_other))
    return {"swap_error": max(swapped), "gradient_swap_error": min(broken)}


def _weighted(weights: Tensor, outputs: Tensor) -> Tensor:
    return (outputs * weights).sum(1)


def _superposition(s: Rules, net: Network, x: Tensor) -> dict[str, Any]:
    """For each combination of rules, how far the relevance of a sum is from the sum of relevances."""
    first, second = torch.randn(2, s.outputs, dtype=torch.float64)
    errors = {}
    for (m, matrix), (n, nonlinearity), (k, maximum) in itertools.product(
        MATRIX.items(), NONLINEARITY.items(), MAXIMUM.items()
    ):
        composite = _chosen(matrix, nonlinearity, maximum)
        one, two, both = (
            attribute(net, x, functools.partial(_weighted, w), composite).inputs
            for w in (first, second, first + second)
        )
        errors[f"{m}, {n}, {k}"] = off(one + two, both)
    repeat = [error for name, error in errors.items() if ", repeat," in name]
    return {
        "superposition": errors,
        "superposition_error": max(error for name, error in errors.items() if ", repeat," not in name),
        "repeat_superposition_error": min(repeat),
    }
