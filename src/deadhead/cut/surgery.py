"""Surgery on a module as plain data: which entries of which tensors are kept, and what else changes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from deadhead.cut.changes import Surgery as Surgery
from deadhead.cut.program import apply
from deadhead.cut.stated import stated_sizes
from deadhead.errors import CutError
from deadhead.graph.trace import empty_caches
from deadhead.graph.units.groups import Group


def surgery_for(module: nn.Module, groups: Sequence[Group], removed: Mapping[str, Tensor]) -> Surgery:
    """The surgery that removes units: their slices of every tensor, and the attributes of torch's own modules that
    follow from them.

    Args:
        module: the intact module.
        groups: its groups.
        removed: {group: the units that are removed}.
    """
    tensors = dict(_tensors_of(module))
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
    return Surgery(keep, stated_sizes(module, keep))


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The submodule that holds the tensor `name`, and its name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def operate(module: nn.Module, surgery: Surgery) -> dict[int, nn.Parameter]:
    """Carry out a surgery on `module` itself.

    Tensors that are shared remain shared; parameters keep `requires_grad`, and their gradients are cut along. A
    parameter remains the same object, unless an autograd graph that is still alive (an old loss, say) holds it with its
    old shape: then a new one takes its place, with the hooks that were registered on the old. (Hooks on nodes of that
    graph, such as those of DistributedDataParallel, stay with the graph: wrap the module anew.)

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
            new.__dict__.update(tensor.__dict__)  # what the caller noted on it
            new._backward_hooks = tensor._backward_hooks
            new._post_accumulate_grad_hooks = tensor._post_accumulate_grad_hooks
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
        like = next(owner.parameters())
        setattr(owner, leaf, nn.Parameter(torch.zeros(size, dtype=like.dtype, device=like.device), like.requires_grad))
    apply(module, surgery.rewrites)
    return replaced


MEMORY = "_deadhead_surgery"
"""Where a module remembers how it was cut: JSON as one text, which copies and pickles carry along."""


def remember(module: nn.Module, surgery: Surgery) -> None:
    """Let a module remember a surgery that was carried out on it, after those it remembers.

    Each submodule holds what was done to itself, so that it can be taken out, put into another model, or replaced by a
    new one. A traced program holds all of it, since copies of it have new submodules.

    Args:
        module: what was cut.
        surgery: how, from the module as it was before.
    """
    before = _remembered(module)
    behind = surgery_behind(module)
    names: dict[int, list[str]] = {}
    for name, tensor in _tensors_of(module):
        names.setdefault(id(tensor), []).append(name)
    alike = {name: each for each in names.values() for name in each}
    keep: dict[str, dict[int, list[int]]] = {}
    for name, axes in surgery.keep.items():  # by every name; a bias by the one under which it was added
        for other in [each for each in alike[name] if each in behind.biases] or alike[name]:
            keep.setdefault(other, axes)
    whole = behind.then(Surgery(keep, surgery.settings, surgery.biases, surgery.rewrites))
    first = {id(each): path for path, each in module.named_modules()}
    programs = [path for path, each in module.named_modules() if isinstance(each, fx.GraphModule)]
    parts: dict[str, Surgery] = {}

    def place_of(path: str) -> tuple[Surgery, str]:
        """What the holder of a submodule remembers, and the submodule's path from there."""
        path = first[id(module.get_submodule(path))]
        holder = next((each for each in programs if each == path or not each or path.startswith(f"{each}.")), path)
        return parts.setdefault(holder, Surgery()), path[len(holder) :].removeprefix(".")

    if whole.rewrites:
        place_of("")[0].rewrites = whole.rewrites
    for name, axes in whole.keep.items():
        part, inner = place_of(name.rpartition(".")[0])
        part.keep.setdefault(f"{inner}.{name.rpartition('.')[2]}".removeprefix("."), axes)  # the first name has it all
    for name, size in whole.biases.items():
        part, inner = place_of(name.rpartition(".")[0])
        part.biases[f"{inner}.{name.rpartition('.')[2]}".removeprefix(".")] = size
    for path, attribute, value in whole.settings:
        part, inner = place_of(path)
        part.settings.append((inner, attribute, value))
    for path in before:
        del _memory(module.get_submodule(path))[MEMORY]
    for path, part in parts.items():
        _memory(module.get_submodule(path))[MEMORY] = json.dumps(part.to_json())


def surgery_behind(module: nn.Module) -> Surgery:
    """The surgery that leads to a module from the intact module of its class; an empty one where it was never cut.

    Args:
        module: any module; what its submodules remember counts, save that of a traced program inside another module,
            whose nodes cannot be named from there.

    Example:
        >>> import deadhead
        >>> data = [(torch.randn(32, 2), torch.randint(2, (32,)))]
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> smaller = deadhead.prune(model, data, loss="cross_entropy", units=0.5, compensate="zero").model
        >>> len(surgery_behind(smaller).keep["0.weight"][0]), surgery_behind(model).keep
        (4, {})
    """
    whole = Surgery()
    for path, part in _remembered(module).items():
        prefix = f"{path}." if path else ""
        whole.keep.update({prefix + name: axes for name, axes in part.keep.items()})
        whole.biases.update({prefix + name: size for name, size in part.biases.items()})
        whole.settings += [(f"{prefix}{inner}".rstrip("."), name, value) for inner, name, value in part.settings]
        whole.rewrites += part.rewrites
    return whole


def _remembered(module: nn.Module) -> dict[str, Surgery]:
    """What each submodule remembers, by its path."""
    texts = {path: _memory(each).get(MEMORY) for path, each in module.named_modules()}
    parts = {path: Surgery.from_json(json.loads(text)) for path, text in texts.items() if text is not None}
    return {path: part for path, part in parts.items() if not (path and part.rewrites)}


def _memory(module: nn.Module) -> dict[str, Any]:
    """Where a module keeps plain values that its copies have, too."""
    return module.meta if isinstance(module, fx.GraphModule) else module.__dict__


def _tensors_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers of a module, by all names of each."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


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
    """The entries `axes[axis]` of each axis, in the memory format that the tensor has."""
    order = _memory_format(tensor)
    for axis, kept in axes.items():
        tensor = tensor.index_select(axis, torch.tensor(kept, device=tensor.device, dtype=torch.long))
    return tensor.contiguous(memory_format=order)


def _memory_format(tensor: Tensor) -> torch.memory_format:
    """Channels last where a tensor lies so, and not in the common order too."""
    if not tensor.is_contiguous():
        for order, axes in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
            if tensor.dim() == axes and tensor.is_contiguous(memory_format=order):
                return order
    return torch.contiguous_format


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
