"""Fused attention: softmax(q k^T) v, heads along the last axis but two."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from deadhead.graph.nodes import argument, is_tensor, operand, where
from deadhead.graph.units.labels import Labels
from deadhead.graph.units.registry import contract, rule


@rule("scaled_dot_product_attention")
def attention(labels: Labels, node: fx.Node) -> Any:
    """y[.., h, s, f] = sum_t softmax_t(sum_e q[.., h, s, e] k[.., h, t, e] + mask[.., h, s, t]) v[.., h, t, f].

    A head is a unit: labels inside it are merged. With grouped queries, a group of query heads is a unit with its head
    of keys and values.
    """
    q, k, v = (operand(node, i) for i in range(3))
    values = [labels.values[arg] for arg in (q, k, v)]
    name, rank = where(node), len(values[0].shape)
    mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    for i, value in enumerate(values):
        for axis in range(len(value.shape) - 2 if rank > 2 else 0, len(value.shape) - 1):
            values[i] = labels.fix_axis(values[i], axis, f"{name} mixes it")
    outer = [str(axis) for axis in range(rank - 2)]
    if argument(node, 7, "enable_gqa", False) and rank > 2:
        for i in (1, 2):
            heads = values[i].shape[rank - 3]
            repeat = values[0].shape[rank - 3] // heads
            values[i] = labels.take(values[i], rank - 3, np.repeat(np.arange(heads), repeat))
    scores, _ = contract(
        labels, node, [(0, q, values[0], [*outer, "s", "e"]), (1, k, values[1], [*outer, "t", "e"])],
        [*outer, "s", "t", "e"], [*outer, "s", "t"],
    )  # fmt: skip
    if is_tensor(mask):
        own = labels.values[mask]
        names = [*outer, "s", "t"]
        sizes = dict(zip(names, scores.shape, strict=True))
        aligned = labels.align([(scores, names), (own, names[len(names) - len(own.shape) :])], sizes, (), name)
        scores = labels.assemble(scores.shape, names, aligned, name)
    result, _ = contract(
        labels, node, [(-2, node, scores, [*outer, "s", "t"]), (2, v, values[2], [*outer, "t", "f"])],
        [*outer, "s", "t", "f"], [*outer, "s", "f"],
    )  # fmt: skip
    return result
