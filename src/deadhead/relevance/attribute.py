"""The relevance of inputs, biases and layers: `attribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from deadhead.errors import RelevanceError
from deadhead.graph.network import Network, trace
from deadhead.graph.pytree import take
from deadhead.graph.trace import batch_size
from deadhead.relevance import kinds, lowering  # noqa: F401
from deadhead.relevance.average import AVERAGES, Average, average
from deadhead.relevance.baselines import baseline_of
from deadhead.relevance.composites import NAMED, Composite, composite
from deadhead.relevance.passes import Job
from deadhead.relevance.plan import Plan, build
from deadhead.relevance.result import Relevance
from deadhead.relevance.steps import Key
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
    """Where an output comes from: the relevance of every input, bias and layer asked for.

    Runs backward through the traced graph by a rule for each kind of op. Relevance is conserved at every cut of the
    graph, for each sample: what crosses it, the biases behind it and what rules absorbed behind it sum to the output.
    Claimed to rounding by `lrp`, `lrp_epsilon`, `epsilon_plus`, `blame_bias` and `baseline`; `integrated_gradients`
    reaches it to the error of its quadrature.

    `inputs` is what the model is called with, with samples along the batch axis. `target` is the index of an output,
    a tensor of one for each sample, a function from the outputs to one number for each sample, or None for each
    sample's largest. `method` is the name of a composite, or a `Composite` of your own:

    - `gradient`, `gradient_x_input`, `deconvnet`, `guided`;
    - `lrp`: normalised with biases outside of the denominators; `blame_bias`: each bias an input of its own, or
      with `constants="all"` one for all of them, whose relevance is `.biases["one"]`;
    - `lrp_epsilon` (`epsilon`), `epsilon_plus` (`epsilon`, `first`);
    - `baseline` (`maximum`): differences to `baseline`;
    - `integrated_gradients` (`steps`), `smoothgrad` (`samples`, `noise`, `seed`).

    `baseline` is None for a blank input (zeros; ids 0), an input like `inputs` with as many samples or one, or a list
    of batches, whose mean it is. `layers` are names of modules, or of nodes of the graph, whose outputs' relevance is
    returned too. `cuts` asks for the residual at every cut. `unknown="gradient"` uses the derivative of ops that have
    no rule, and lists them.

    Where gradients are enabled and parameters or inputs require them, autograd goes through the result to these; under
    `torch.no_grad()` it is a plain tensor. The model, its modes, hooks and gradients are left as they are; it is
    explained in evaluation mode.

    Raises `RelevanceError` for an op without a rule, an unknown method or option, a target that names no single number
    for each sample, or samples that see each other; `TraceError` where the model cannot be traced.

    Source: 000, section 2; the design's "Relevance" and its mathematics.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> x = torch.tensor([[1.0, -2.0, 0.5]])
    >>> relevance = attribute(model, x, target=0, method="blame_bias")
    >>> sorted(relevance.biases)
    ['0.bias', '2.bias']
    >>> total = relevance.inputs.sum() + sum(each.sum() for each in relevance.biases.values())
    >>> torch.allclose(total, model(x)[0, 0])
    True
    """
    if unknown not in (None, "gradient"):
        raise RelevanceError(f"unknown={unknown!r} is no choice; it is None or 'gradient'.")
    chosen = _method(method, options)
    network = model if isinstance(model, Network) else trace(model, inputs)
    tensors = network.flatten(inputs)
    traced = network.traced(tensors)
    if traced.samples.mixed and batch_size(tensors, network.batch_axis) > 1:
        raise RelevanceError(
            f"The samples of a batch see each other in {type(network.module).__name__}, so that no output belongs to "
            "one of them; give the samples one by one."
        )
    detached = (chosen.composite if isinstance(chosen, Average) else chosen).detached
    if detached not in traced.kept:
        traced.kept[detached] = build(traced.graph, detached)
    plan = traced.kept[detached]
    job = Job(network, traced, plan, unknown, cuts, _find_layers(plan, layers), take(inputs)[1])
    if isinstance(chosen, Average):
        return average(job, tensors, target, chosen, baseline)
    base = None
    if chosen.baseline:
        base = baseline_of(baseline, network, plan, tensors)
    elif baseline is not None:
        raise RelevanceError("This method compares with no baseline; use 'baseline' or 'integrated_gradients'.")
    return job.explain(tensors, base, target, chosen)


def _method(method: str | Composite, options: Mapping[str, Any]) -> Composite | Average:
    if isinstance(method, Composite):
        if options:
            raise RelevanceError(f"A Composite takes no options; {', '.join(options)} belongs into its rules.")
        return method
    if method in AVERAGES:
        try:
            return AVERAGES[method](**options)
        except TypeError as error:
            raise RelevanceError(f"{method} does not take {', '.join(options)}.") from error
    if method not in NAMED:
        names = ", ".join([*NAMED, *AVERAGES])
        raise RelevanceError(f"There is no method {method!r}; the methods are {names}.")
    return composite(method, **options)


def _find_layers(plan: Plan, names: Sequence[str]) -> dict[str, Key]:
    """The last value that a module of each name gives, or the node of that name."""
    found: dict[str, Key] = {}
    for name in names:
        steps = [step for step in plan.steps if step.kind and isinstance(step.key, fx.Node)]
        own = [s for s in steps if s.path == name or s.path.startswith(f"{name}.") or str(s.key) == name]
        if not own or not name:
            known = ", ".join(dict.fromkeys(step.path for step in steps if step.path))
            raise RelevanceError(f"There is no layer {name!r} that relevance passes; the modules are {known}.")
        found[name] = own[-1].key
    return found
