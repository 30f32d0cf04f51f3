"""The relevance of inputs, biases and layers for an output: `attribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from deadhead.errors import RelevanceError
from deadhead.graph.network import Network, trace
from deadhead.graph.pytree import take
from deadhead.graph.trace import batch_size
from deadhead.relevance import composites, kinds, lowering  # noqa: F401
from deadhead.relevance.attribution import Attribution
from deadhead.relevance.average import GradientAverage, average
from deadhead.relevance.baselines import baseline_of
from deadhead.relevance.composite import Composite
from deadhead.relevance.operations import Key
from deadhead.relevance.program import Program, build
from deadhead.relevance.registry import make_method
from deadhead.relevance.result import Relevance
from deadhead.relevance.target import Target


def attribute(
    model: nn.Module | Network,
    inputs: Any,
    target: Target = None,
    method: str | Composite = "lrp",
    *,
    baseline: Any = None,
    layers: Sequence[str] = (),
    cuts: bool = False,
    unknown: str | None = None,
    **options: Any,
) -> Relevance:
    """Attribute an output to inputs and biases, by layer-wise relevance propagation (LRP), gradients or DeepLIFT.

    Runs backward through the traced graph by a rule for each kind of op. For each sample and at every cut through the
    graph, the relevance that crosses it, that of the biases behind it and what rules absorbed behind it sum to the
    output: to rounding for `lrp`, `lrp_epsilon`, `lrp_gamma`, `epsilon_plus`, `blame_bias` and `baseline`; for
    `integrated_gradients` to the error of its quadrature. The methods and their options:

    - `gradient`, `gradient_x_input`, `deconvnet`, `guided` (guided backpropagation);
    - `lrp`: LRP-0, learned biases outside of the denominators;
    - `lrp_epsilon` (`epsilon`): LRP-epsilon; `lrp_gamma` (`gamma`): LRP-gamma;
    - `epsilon_plus` (`epsilon`, `first`): LRP-epsilon for linear layers, LRP-z+ for convolutions;
    - `blame_bias` (`constants`): LRP-0 with each bias as an input of its own;
    - `baseline` (`maximum`): DeepLIFT's Rescale rule, the difference to `baseline`;
    - `integrated_gradients` (`steps`), `smoothgrad` (`samples`, `noise`, `seed`);
    - those that other packages register, see `deadhead.relevance.registry`.

    Args:
        model: a module, or `dh.trace(model, inputs)` to trace once; explained in evaluation mode and left as it is.
        inputs: what the model is called with, samples along the batch axis.
        target: index of an output, a tensor of one for each sample, a function from the outputs to one number for each
            sample, or None (default) for each sample's largest.
        method: the name of a method (default "lrp"), or a `Composite`.
        baseline: what `baseline` and `integrated_gradients` compare with: None (default) for zeros and ids 0, an input
            like `inputs` with as many samples or one, or a list of batches, whose mean it is.
        layers: names of modules, or of nodes of the graph, whose outputs' relevance is returned too (default none).
        cuts: whether to return the residual at every cut through the graph (default False).
        unknown: "gradient" to use the derivative of ops that have no rule; None (default) to raise.
        options: the method's options.

    Returns:
        A `Relevance`; print it for a table. Where gradients are enabled and parameters or inputs require them, autograd
        goes through it to these; under `torch.no_grad()` its tensors are plain.

    Raises:
        RelevanceError: for an op without a rule, an unknown method or option, a target that names no single number for
            each sample, a layer that does not exist, a baseline that does not fit, or samples that see each other.
        TraceError: if the model cannot be traced.

    Source: Bach et al. (2015); "Visualizing Neural networks, how to blame the bias", AI Alignment Forum; each method's
    own source stands at its function in `deadhead.relevance.composites` and `deadhead.relevance.average`.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> x = torch.tensor([[1.0, -2.0, 0.5]])
    >>> relevance = attribute(model, x, target=0, method="blame_bias")
    >>> sorted(relevance.biases)
    ['0.bias', '2.bias']
    >>> total = relevance.inputs.sum() + sum(each.sum() for each in relevance.biases.values())
    >>> torch.allclose(total, model(x)[0, 0], atol=1e-5)
    True
    """
    if unknown not in (None, "gradient"):
        raise RelevanceError(f"unknown={unknown!r} is not a choice; it is None or 'gradient'.")
    chosen, name = _choose_method(method, options)
    network = model if isinstance(model, Network) else trace(model, inputs)
    tensors = network.flatten(inputs)
    traced = network.traced(tensors)
    if traced.samples.mixed and batch_size(tensors, network.batch_axis) > 1:
        raise RelevanceError(
            f"The samples of a batch see each other in {type(network.module).__name__}, so that no output belongs to "
            "one of them; give the samples one by one."
        )
    detached = (chosen.composite if isinstance(chosen, GradientAverage) else chosen).detached
    if detached not in traced.cache:
        traced.cache[detached] = build(traced.graph, detached)
    program = traced.cache[detached]
    structure = take(inputs)[1]
    attribution = Attribution(
        network, traced, program, name, unknown, cuts, _find_layers(program, layers), structure
    )  # fmt: skip
    if isinstance(chosen, GradientAverage):
        return average(attribution, tensors, target, chosen, baseline)
    base = None
    if chosen.baseline:
        base = baseline_of(baseline, network, program, tensors)
    elif baseline is not None:
        raise RelevanceError(
            f"The method {name} compares with no baseline; leave it away, or use 'baseline' or 'integrated_gradients'."
        )
    return attribution.explain(tensors, base, target, chosen)


def _choose_method(method: str | Composite, options: Mapping[str, Any]) -> tuple[Composite | GradientAverage, str]:
    """The method, and its name with its options for people."""
    if isinstance(method, Composite):
        if options:
            raise RelevanceError(
                f"A Composite takes no options, but {', '.join(options)} is given; set it in the composite's rules."
            )
        return method, "a composite"
    made = make_method(method, **options)
    if not isinstance(made, (Composite, GradientAverage)):
        raise RelevanceError(
            f"The method {method} gave a {type(made).__name__}; its function must return a Composite or a "
            "GradientAverage."
        )
    given = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return made, f"{method}({given})" if given else method


def _find_layers(program: Program, names: Sequence[str]) -> dict[str, Key]:
    """The last value that a module of each name gives, or the node of that name."""
    found: dict[str, Key] = {}
    for name in names:
        passed = [each for each in program.operations if each.kind and isinstance(each.key, fx.Node)]
        own = [
            each for each in passed if each.path == name or each.path.startswith(f"{name}.") or str(each.key) == name
        ]
        if not own or not name:
            known = ", ".join(dict.fromkeys(each.path for each in passed if each.path))
            raise RelevanceError(f"There is no layer {name!r} that relevance passes; the modules are {known}.")
        found[name] = own[-1].key
    return found
