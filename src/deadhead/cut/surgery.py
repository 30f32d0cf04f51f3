"""Surgery on a module as plain data: which entries of which tensors are kept, and what else changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.cut.program import apply
from deadhead.errors import CutError
from deadhead.graph.trace import empty_caches
from deadhead.graph.units.groups import Group

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


@dataclass
class Surgery:
    """What makes a module smaller, as JSON.

    Attributes:
        keep: {tensor: {axis: the entries that are kept}}.
        settings: (module, attribute, value) that change, numbers and tuples of numbers alone; `config.heads` is an
            attribute of an object that the module holds.
        biases: {new parameter: its length}.
        rewrites: (node, argument position, value) that change in the graph of a traced program.
    """

    keep: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    settings: list[tuple[str, str, Any]] = field(default_factory=list)
    biases: dict[str, int] = field(default_factory=dict)
    rewrites: list[tuple[str, int, Any]] = field(default_factory=list)

    def then(self, later: Surgery) -> Surgery:
        """placeholder"""
        return later

    def to_json(self) -> dict[str, Any]:
        """The surgery as values that JSON has."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Surgery:
        """The surgery of such values; raises `ValueError`, `KeyError` or `TypeError` where they are none."""
        keep = {
            name: {int(axis): list(map(int, kept)) for axis, kept in axes.items()}
            for name, axes in data["keep"].items()
        }
        settings = [(str(m), str(a), tuple(v) if isinstance(v, list) else v) for m, a, v in data["settings"]]
        biases = {str(name): int(size) for name, size in data["biases"].items()}
        for name, axes in keep.items():
            if any(axis < 0 or not kept or min(kept) < 0 for axis, kept in axes.items()):
                raise ValueError(f"{name} keeps entries that cannot be")
        for path, attribute, value in settings:
            sizes = value if isinstance(value, tuple) else (value,)
            if any(isinstance(n, bool) or not isinstance(n, int) for n in sizes):
                raise ValueError(f"{path}.{attribute} is no size that a prune sets")
        if any(size < 1 for size in biases.values()):
            raise ValueError("a bias has no entries")
        return Surgery(keep, settings, biases, [(str(node), int(at), value) for node, at, value in data["rewrites"]])


def surgery_for(module: nn.Module, groups: Sequence[Group], removed: Mapping[str, Tensor]) -> Surgery:
    """The surgery that removes units: their slices of every tensor, and the attributes of torch's own modules that
    follow from them.

    Args:
        module: the intact module.
        groups: its groups.
        removed: {group: the units that are removed}.
    """
    tensors = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    masks: dict[str, dict[int, Tensor]] = {}
    for group in groups:
        units = removed.get(group.name)
        if units is None or not len(units):
            continue
        is_removed = torch.zeros(group.size + 1, dtype=torch.bool).index_fill_(0, units, True)
        for part in group.slices:
            axes = masks.setdefault(part.parameter, {})
            mask = axes.setdefault(part.axis, torch.ones(tensors[part.parameter].shape[part.axis], dtype=torch.bool))
            mask &= ~is_removed[part.units]
    keep = {
        name: {axis: mask.nonzero()[:, 0].tolist() for axis, mask in axes.items() if not mask.all()}
        for name, axes in masks.items()
    }
    keep = {name: axes for name, axes in keep.items() if axes}
    return Surgery(keep, _settings(module, keep))


def _settings(module: nn.Module, keep: Mapping[str, Mapping[int, Sequence[int]]]) -> list[tuple[str, str, Any]]:
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


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The submodule that holds the tensor `name`, and its name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def operate(module: nn.Module, surgery: Surgery) -> dict[int, nn.Parameter]:
    """Carry out a surgery on `module` itself.

    Tensors that are shared remain shared; parameters keep `requires_grad`, and their gradients are cut along. A
    parameter remains the same object, unless an autograd graph that is still alive (an old loss, say) holds it with its
    old shape: then a new one takes its place.

    Args:
        module: the module that is changed.
        surgery: what is removed and what changes.

    Returns:
        {id of a parameter: the parameter that had to take its place}.

    Raises:
        CutError: where the module has no such tensors or numbers.
    """
    done: set[int] = set()
    replaced: dict[int, nn.Parameter] = {}
    for name, axes in surgery.keep.items():
        owner, leaf = owner_of(module, name)
        tensor: Tensor | None = owner._parameters.get(leaf)
        if tensor is None:
            tensor = owner._buffers.get(leaf)
        if tensor is None:
            raise CutError(
                f"{name} is no parameter or buffer of {type(module).__name__}: the result belongs to another model."
            )
        if id(tensor) in done:
            continue
        done.add(id(tensor))
        for axis, kept in axes.items():
            if tensor.dim() <= axis or max(kept, default=-1) >= tensor.shape[axis]:
                raise CutError(
                    f"{name} has shape {tuple(tensor.shape)}, too small for this result: it belongs to another model."
                )
        gradient = tensor.grad if tensor.is_leaf else None
        tensor.grad = None
        smaller = pick(tensor.data, axes)
        if _in_a_graph(tensor):
            new = nn.Parameter(smaller, tensor.requires_grad)
            new._backward_hooks = tensor._backward_hooks
            _exchange(module, tensor, new)
            replaced[id(tensor)] = tensor = new
        else:
            tensor.data = smaller
        if gradient is not None:
            tensor.grad = pick(gradient, axes)
    for path, attribute, value in surgery.settings:
        assign(module.get_submodule(path), attribute, value)
    for name, size in surgery.biases.items():
        owner, leaf = owner_of(module, name)
        like = next(owner.parameters(recurse=False))
        setattr(owner, leaf, nn.Parameter(torch.zeros(size, dtype=like.dtype, device=like.device), like.requires_grad))
    apply(module, surgery.rewrites)
    return replaced


def _holders(module: nn.Module, path: Sequence[str]) -> list[Any]:
    """The module and the objects on the path to an attribute: what it holds, what that holds, and so on."""
    holders: list[Any] = [module]
    for name in path:
        held = getattr(holders[-1], "__dict__", {}).get(name)
        if name.startswith("_") or held is None or isinstance(held, (nn.Module, Tensor)):
            raise CutError(f"{type(module).__name__} holds no {name}: the result belongs to another model.")
        holders.append(held)
    return holders


def read_number(module: nn.Module, attribute: str) -> Any:
    """An attribute of a module that is an integer or a tuple of them, or one of an object that it holds; None where
    that has none yet.

    Raises `CutError` for anything else, whatever a saved file names.
    """
    *path, leaf = attribute.split(".")
    value = None if leaf.startswith("_") else getattr(_holders(module, path)[-1], leaf, None)
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if value is None and path and not leaf.startswith("_"):
        return None  # a configuration that does not say it
    if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
        raise CutError(f"{attribute} of {type(module).__name__} is no size: the result belongs to another model.")
    return value


def assign(module: nn.Module, attribute: str, value: Any) -> None:
    """Set a number of a module. An object that the module holds, such as a configuration, may be shared with other
    modules, so that the module gets a copy of it.

    Args:
        module: the module that is changed.
        attribute: the number's name; `config.heads` is an attribute of an object that the module holds.
        value: the new number, or numbers.
    """
    old = read_number(module, attribute)
    *path, leaf = attribute.split(".")
    holder: Any = module
    for name, held in zip(path, _holders(module, path)[1:], strict=True):
        setattr(holder, name, copy.copy(held))
        holder = vars(holder)[name]
    setattr(holder, leaf, list(value) if isinstance(old, list) else value)


def _in_a_graph(tensor: Tensor) -> bool:
    """Whether an autograd graph that is alive accumulates into this leaf: such a graph remembers its shape."""
    if not isinstance(tensor, nn.Parameter) or not tensor.requires_grad:
        return False
    with torch.enable_grad():
        accumulator: Any = tensor.view_as(tensor).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
        accumulator.metadata["deadhead"] = True
        del accumulator
        again: Any = tensor.view_as(tensor).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
        return bool(again.metadata.pop("deadhead", False))


def _exchange(module: nn.Module, old: Tensor, new: nn.Parameter) -> None:
    """Put `new` wherever `old` stands."""
    for owner in module.modules():
        for leaf, held in owner._parameters.items():
            if held is old:
                owner._parameters[leaf] = new
        if isinstance(owner, nn.RNNBase):
            owner._flat_weights = [new if each is old else each for each in owner._flat_weights]


def pick(tensor: Tensor, axes: Mapping[int, Sequence[int]]) -> Tensor:
    """The entries `axes[axis]` of each axis."""
    for axis, kept in axes.items():
        tensor = tensor.index_select(axis, torch.tensor(kept, device=tensor.device, dtype=torch.long))
    return tensor.contiguous()


def _tensors_in(value: Any, seen: set[int] | None = None) -> Iterator[Tensor]:
    """The tensors in a value and in the containers in it."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item, seen)


def copy_of(module: nn.Module, share: bool = False) -> nn.Module:
    """A deep copy of a module, also of one that holds tensors with a history, which are copied without it.

    Args:
        module: what is copied.
        share: whether its parameters are new ones on the same memory: enough for a copy that is cut, run and dropped.
    """
    memo: dict[int, Any] = {}
    if share:
        for parameter in module.parameters():
            if type(parameter) is nn.Parameter:
                memo[id(parameter)] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    for each in module.modules():
        for tensor in _tensors_in(each.__dict__):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    copied = copy.deepcopy(module, memo)
    empty_caches(copied)
    return copied
