"""Composites by name: LRP and its relatives, gradients, deconvnet, guided backpropagation, DeepLIFT's Rescale rule.

Each is a function registered under its name; its keyword-only arguments are the options that `attribute` takes.
"""

from __future__ import annotations

from typing import Any, Literal

from deadhead.errors import RelevanceError
from deadhead.relevance.composite import Composite
from deadhead.relevance.kinds import DESCRIBED
from deadhead.relevance.registry import composite, make_method
from deadhead.relevance.rules import (
    Deconvnet,
    Detach,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    GuidedBackprop,
    RelevanceRule,
    ReluMaximum,
    Rescale,
    SoftMaximum,
    Uniform,
    ZPlus,
)


def named_composite(name: str, **options: Any) -> Composite:
    """The composite of a method, to change some of its rules.

    Args:
        name: the name of a method that is a composite, such as "lrp".
        options: the method's options.

    Returns:
        The composite; `composite.but(...)` gives a changed one, which `attribute(..., method=...)` takes.

    Raises:
        RelevanceError: if there is no such method or option, or the method is an average of gradients.

    >>> named_composite("lrp_epsilon", epsilon=0.01).rules["linear"]
    Epsilon(epsilon=0.01, bias=True)
    """
    made = make_method(name, **options)
    if not isinstance(made, Composite):
        raise RelevanceError(f"The method {name} is an average of gradients and has no rules; give it by its name.")
    return made


def _with_weights(rule: RelevanceRule, **others: RelevanceRule) -> dict[str, RelevanceRule]:
    return {"linear": rule, "convolution": rule, "sum": rule, **others}


_WITHOUT_WEIGHTS: dict[str, RelevanceRule] = {
    "movement": Gradient(),
    "product": Uniform(),
    "maximum": Gradient(),
    "nonlinearity": Rescale(),
    "softmax": Detach(),
    "normalisation": Detach(),
    "general": Gradient(),
    "embedding": Gradient(),
}
"""What LRP composites have in common. Rescale without a baseline passes relevance on as it is."""
_DERIVATIVE: dict[str, RelevanceRule] = dict.fromkeys(DESCRIBED, Gradient(remainder=False))


@composite("gradient")
def gradient() -> Composite:
    """Gradient (saliency map): the derivative of the output with respect to the input.

    Source: Simonyan et al. (2014), section 3.

    >>> gradient().start
    'R'
    """
    return Composite(_DERIVATIVE, start="R")


@composite("gradient_x_input")
def gradient_x_input() -> Composite:
    """Gradient x input: each input times the derivative of the output with respect to it.

    Source: Shrikumar et al. (2017), section 2.

    >>> gradient_x_input().start
    'Q'
    """
    return Composite(_DERIVATIVE)


@composite("deconvnet")
def deconvnet() -> Composite:
    """Deconvnet: gradients, but each nonlinearity is applied to what runs backward.

    Source: Zeiler and Fergus (2014), section 2.1.

    >>> deconvnet().rules["nonlinearity"]
    Deconvnet()
    """
    return gradient().but({"nonlinearity": Deconvnet()})


@composite("guided")
def guided() -> Composite:
    """Guided backpropagation: gradients of which only the positive ones pass a ReLU.

    Source: Springenberg et al. (2015), section 3.4.

    >>> guided().rules["nonlinearity"]
    GuidedBackprop()
    """
    return gradient().but({"nonlinearity": GuidedBackprop()})


@composite("lrp")
def lrp() -> Composite:
    """LRP-0 with learned biases left out of the denominators: they get no relevance.

    Source: Bach et al. (2015); "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Simplifying
    the LRP".

    >>> lrp().rules["linear"]
    Epsilon(epsilon=0.0, bias=False)
    """
    return Composite({**_WITHOUT_WEIGHTS, **_with_weights(Epsilon(bias=False))})


@composite("lrp_epsilon")
def lrp_epsilon(*, epsilon: float = 1e-6) -> Composite:
    """LRP-epsilon in every layer, biases in the denominator.

    Args:
        epsilon: stabiliser added to the size of the denominators, in units of the activations.

    Source: Bach et al. (2015), eq. 58.

    >>> lrp_epsilon(epsilon=0.1).rules["linear"]
    Epsilon(epsilon=0.1, bias=True)
    """
    return Composite({**_WITHOUT_WEIGHTS, **_with_weights(Epsilon(epsilon))})


@composite("lrp_gamma")
def lrp_gamma(*, gamma: float = 0.25) -> Composite:
    """LRP-gamma in linear and convolutional layers: contributions of the output's sign are favoured.

    Args:
        gamma: how much they are favoured; 0 is LRP-0.

    Source: Montavon et al. (2019), LRP-gamma; Andéol et al. (2021) for operands of both signs.

    >>> lrp_gamma(gamma=0.1).rules["linear"]
    Gamma(gamma=0.1)
    """
    rules = _with_weights(Epsilon(), linear=Gamma(gamma), convolution=Gamma(gamma))
    return Composite({**_WITHOUT_WEIGHTS, **rules})


@composite("epsilon_plus")
def epsilon_plus(*, epsilon: float = 1e-6, first: Literal["", "flat"] = "") -> Composite:
    """LRP-z+ in convolutions and LRP-epsilon in linear layers; `first="flat"` for the flat rule in the first layer.

    Args:
        epsilon: stabiliser of the linear layers, in units of the activations.
        first: "" for the layer's own rule, "flat" for the flat rule.

    Source: Montavon et al. (2019), section 10.3; Lapuschkin et al. (2019), supplement, for the flat rule.

    >>> epsilon_plus(first="flat").first["convolution"]
    Flat()
    """
    if first not in ("", "flat"):
        raise RelevanceError(f"first={first!r} is not a choice; it is '' (the layer's own rule) or 'flat'.")
    rules = _with_weights(Epsilon(epsilon), convolution=ZPlus())
    at_first: dict[str, RelevanceRule] = {"convolution": Flat(), "linear": Flat()} if first else {}
    return Composite({**_WITHOUT_WEIGHTS, **rules}, first=at_first)


@composite("blame_bias")
def blame_bias(*, constants: Literal["each", "all"] = "each") -> Composite:
    """LRP-0 with every bias as an input of its own: inputs and biases add up to the output exactly.

    Args:
        constants: "each" bias has its own relevance; "all" share one, under the name `one`.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Solution 1: Blame the Bias".

    >>> blame_bias().rules["linear"]
    Epsilon(epsilon=0.0, bias=True)
    """
    return Composite({**_WITHOUT_WEIGHTS, **_with_weights(Epsilon())}, constants=constants)


@composite("baseline")
def baseline(*, maximum: Literal["soft", "fold"] = "soft") -> Composite:
    """DeepLIFT's Rescale rule: the difference of the output to that of a baseline input, shared among the inputs.

    Args:
        maximum: "soft" for max-pooling as the limit of log-sum-exp, "fold" as `a + relu(b - a)`.

    Source: Shrikumar et al. (2017), the Rescale rule; "Visualizing Neural networks, how to blame the bias", AI
    Alignment Forum, "Solution 2: Compare to baseline".

    >>> baseline(maximum="fold").rules["maximum"]
    ReluMaximum()
    """
    if maximum not in ("soft", "fold"):
        raise RelevanceError(f"maximum={maximum!r} is not a choice; it is 'soft' or 'fold'.")
    rules: dict[str, RelevanceRule] = {
        **_WITHOUT_WEIGHTS,
        **_with_weights(Epsilon()),
        "maximum": SoftMaximum() if maximum == "soft" else ReluMaximum(),
        "softmax": Gradient(),
        "normalisation": Rescale(),
    }
    return Composite(rules, baseline=True)
