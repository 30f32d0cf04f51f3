"""Relevance rules, one file for each family of ops: how the relevance of an op's output is shared among its operands.

A rule is a small frozen dataclass with a method `back(context, record, signal)`. It may ask of the backward pass what
`rules/rule.py` lists (`RuleContext`), and imports no other family of rules. By their published names:

| rule | class |
|---|---|
| LRP-0, LRP-epsilon | `Epsilon(0)`, `Epsilon` |
| LRP-gamma, LRP-z+, LRP-alpha-beta | `Gamma`, `ZPlus`, `AlphaBeta` |
| flat, w-squared | `Flat`, `WSquare` |
| gradient | `Gradient` |
| DeepLIFT's Rescale rule; relevance passed on unchanged | `Rescale`, `Pass` |
| deconvnet; guided backpropagation | `Deconvnet`, `GuidedBackprop` |
| AttnLRP's uniform rule; softmax and normalisation as constants | `Uniform`, `Detach` |
| maxima: in proportion to the values; limit of log-sum-exp | `RadialMaximum`, `SoftMaximum` |
| maxima as `a + relu(b - a)` | `ReluMaximum` |
"""

from deadhead.relevance.rules.general import Gradient
from deadhead.relevance.rules.linear import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZPlus
from deadhead.relevance.rules.maximum import RadialMaximum, ReluMaximum, SoftMaximum
from deadhead.relevance.rules.nonlinearity import Deconvnet, GuidedBackprop, Pass, Rescale
from deadhead.relevance.rules.product import Detach, Uniform
from deadhead.relevance.rules.rule import Contributions, RelevanceRule, RuleContext

__all__ = [
    "AlphaBeta",
    "Contributions",
    "Deconvnet",
    "Detach",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gradient",
    "GuidedBackprop",
    "Pass",
    "RadialMaximum",
    "RelevanceRule",
    "ReluMaximum",
    "Rescale",
    "RuleContext",
    "SoftMaximum",
    "Uniform",
    "WSquare",
    "ZPlus",
]  # fmt: skip
