"""The kinds of ops: kinds are what a composite gives rules to. The catalogue says which op is of which."""

from __future__ import annotations

DESCRIBED = {
    "linear": "products with weights: linear, matmul, einsum",
    "convolution": "convolutions, transposed ones too",
    "sum": "other linear ops: sums, means, average pools, scalings, interpolation, batch norm in evaluation",
    "movement": "ops whose every entry is a copy of one of theirs: views, concatenation, padding, choice by index",
    "product": "products of two values that both depend on the inputs",
    "maximum": "maxima and minima over windows, axes or two values",
    "nonlinearity": "elementwise functions of one value",
    "softmax": "softmax",
    "normalisation": "the reciprocals by which something is divided: of deviations, norms and sums",
    "general": "other functions, by their derivative",
    "embedding": "the choice of vectors by ids",
}
"""The kinds that rules are given to."""
