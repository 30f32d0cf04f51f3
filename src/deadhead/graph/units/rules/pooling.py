"""Pooling and resizing: channels keep their labels, the axes that a window slides along are fixed."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

from deadhead.graph.nodes import op_name, operand, shape_of, where
from deadhead.graph.units.labels import Labels, Value
from deadhead.graph.units.registry import give_up, rule


@rule(
    *(f"{kind}_pool{rank}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for rank in (1, 2, 3)),
    *(f"max_pool{rank}d_with_indices" for rank in (1, 2, 3)), "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    *(f"upsample_{kind}" for kind in (
        "nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d", "trilinear3d", "_nearest_exact1d",
        "nearest_exact2d")),
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    *(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3)),
)  # fmt: skip
def slide(labels: Labels, node: fx.Node) -> Any:
    """Ops on the last one, two or three axes of each channel."""
    value = labels.values[operand(node, 0)]
    match = re.search(r"([123])d", op_name(node))
    if match is None:
        return give_up(labels, node, f"{where(node)} has no rule")
    rank = int(match[1])
    for axis in range(len(value.shape) - rank, len(value.shape)):
        value = labels.fix_axis(value, axis, f"{where(node)} slides along it")
    several = isinstance(node.meta["val"], (tuple, list))
    shape = tuple(value.shape[: len(value.shape) - rank])
    shape += tuple(node.meta["val"][0].shape[-rank:]) if several else shape_of(node)[-rank:]
    result = Value(tuple(int(size) for size in shape), value.blocks, value.why)
    return [result, result] if several else result
