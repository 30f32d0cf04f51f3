"""The attributes of torch's own modules that say how large their tensors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

KNOWN: dict[type[nn.Module], dict[str, tuple[str, int]]] = {
    nn.Linear: {"out_features": ("weight", 0), "in_features": ("weight", 1)},
    nn.Bilinear: {"out_features": ("weight", 0), "in1_features": ("weight", 1), "in2_features": ("weight", 2)},
    nn.Embedding: {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)},
    nn.modules.batchnorm._NormBase: {"num_features": ("running_mean", 0)},
    nn.PReLU: {"num_parameters": ("weight", 0)},
    nn.RNNBase: {"hidden_size": ("weight_hh_l0", 1), "input_size": ("weight_ih_l0", 1)},
    nn.RNNCellBase: {"hidden_size": ("weight_hh", 1), "input_size": ("weight_ih", 1)},
}
"""Attributes of torch's own modules that say how large a tensor of theirs is: (tensor, axis)."""

PROJECTED = {"hidden_size": ("weight_hr_l0", 1), "proj_size": ("weight_hr_l0", 0), "input_size": ("weight_ih_l0", 1)}
"""Those of an LSTM whose hidden states are projected."""
FORMS = (
    "{}", "parametrizations.{}.original", "parametrizations.{}.original1", "parametrizations.{}.original0", "{}_orig",
    "{}_v", "{}_g",
)  # fmt: skip
"""Names under which torch keeps what a tensor is made of: parametrized, with a mask, with weight norm."""


def stated_sizes(module: nn.Module, keep: Mapping[str, Mapping[int, Sequence[int]]]) -> list[tuple[str, str, Any]]:
    """The attributes of torch's own modules that say how large their tensors are, after the cut."""
    settings: list[tuple[str, str, Any]] = []
    for path, owner in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""

        def length(tensor: str, axis: int, prefix: str = prefix) -> int | None:
            names = (form.format(tensor) for form in FORMS)
            kept = next((axes[axis] for name in names if axis in (axes := keep.get(prefix + name, {}))), None)
            return None if kept is None else len(kept)

        for kind, attributes in KNOWN.items():
            if kind is nn.RNNBase and isinstance(owner, nn.RNNBase) and owner.proj_size:
                attributes = PROJECTED
            if isinstance(owner, kind):
                for attribute, (tensor, axis) in attributes.items():
                    new = length(tensor, axis)
                    if new is None and kind is nn.modules.batchnorm._NormBase:
                        new = length("weight", axis)
                    if new is not None and getattr(owner, attribute, new) != new:
                        settings.append((path, attribute, new))
        if isinstance(owner, nn.modules.conv._ConvNd):
            settings += _convolution(path, owner, length("weight", 0), length("weight", 1))
        if isinstance(owner, (nn.LayerNorm, nn.RMSNorm)) and len(owner.normalized_shape) == 1:
            new = length("weight", 0)
            if new is not None:
                settings.append((path, "normalized_shape", (new,)))
    return settings


def _convolution(
    path: str, owner: nn.modules.conv._ConvNd, first: int | None, second: int | None
) -> list[tuple[str, str, Any]]:
    """Channels and groups of a convolution whose weight keeps `first` and `second` entries of its two channel axes.

    A convolution with one input channel for each group loses groups; any other keeps its number of groups.
    """
    if first is None and second is None:
        return []
    outer, inner = owner.weight.shape[:2]
    first, second = (outer if first is None else first), (inner if second is None else second)
    depthwise = owner.groups > 1 and owner.in_channels == owner.groups
    if owner.transposed:
        groups = first if depthwise else owner.groups
        new = {"in_channels": first, "out_channels": second * groups, "groups": groups}
    else:
        groups = first * owner.groups // outer if depthwise else owner.groups
        new = {"in_channels": second * groups, "out_channels": first, "groups": groups}
    return [(path, attribute, value) for attribute, value in new.items() if getattr(owner, attribute) != value]
