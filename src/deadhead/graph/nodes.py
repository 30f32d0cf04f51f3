"""What can be asked of a node of a traced graph: its op, its arguments by name, where in the user's code it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from typing_extensions import TypeIs


def hint(dim: Any) -> int:
    """The size of a dimension, symbolic or not; -1 where it depends on data."""
    if isinstance(dim, int):
        return dim
    if isinstance(dim, torch.SymInt):
        value = dim.node.hint
        return -1 if value is None else int(value)
    return -1


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor."""
    return tuple(hint(dim) for dim in node.meta["val"].shape)


def op_name(node: fx.Node) -> str:
    """`relu` for aten.relu.default and aten.relu_.default, `getitem` for operator.getitem."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        namespace, name = target._schema.name.split("::")
        return (name.removesuffix("_") or name) if namespace == "aten" else f"{namespace}::{name}"
    return getattr(target, "__name__", str(target))


def module_path(node: fx.Node) -> str:
    """The path of the module that a node comes from, empty for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return path.removeprefix("module").removeprefix(".") if isinstance(path, str) else ""


def where(node: fx.Node) -> str:
    """The op and the module that a node comes from, as errors name it: `softmax in encoder.attention`."""
    path = module_path(node)
    return f"{op_name(node)} in {path}" if path else op_name(node)


def is_tensor(value: Any) -> TypeIs[fx.Node]:
    """Whether an argument is a node that gives a tensor."""
    return isinstance(value, fx.Node) and isinstance(value.meta.get("val"), Tensor)


def operand(node: fx.Node, index: int) -> fx.Node:
    """A node's argument that is a node itself."""
    found = node.args[index]
    assert isinstance(found, fx.Node)
    return found


def listed_nodes(node: fx.Node, index: int) -> list[fx.Node]:
    """A node's argument that is a list of nodes."""
    found = node.args[index]
    assert isinstance(found, (list, tuple))
    return [each for each in found if isinstance(each, fx.Node)]


def argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """A node's argument by position or name; symbolic integers as their hints.

    Args:
        node: the node.
        index: the argument's position.
        name: its name, where it is given by name.
        default: its value where it is not given.
    """
    value = node.args[index] if len(node.args) > index else node.kwargs.get(name, default)
    return concrete(value)


def named_arguments(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an op by their names, defaults included.

    Args:
        node: the node of the op.
        args: the values of its first arguments.
        kwargs: the values of others.
    """
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    schema = target._schema.arguments
    given = {spec.name: spec.default_value if spec.has_default_value() else None for spec in schema}
    return {**given, **dict(zip((spec.name for spec in schema), args, strict=False)), **kwargs}


def concrete(value: Any) -> Any:
    """An argument with the values of nodes that give numbers, symbolic integers as their hints."""
    if isinstance(value, fx.Node) and not isinstance(value.meta.get("val"), Tensor):
        found = value.meta.get("val")
        return hint(found) if isinstance(found, torch.SymInt) else found
    if isinstance(value, (list, tuple)):
        return [concrete(item) for item in value]
    return value


def tensor_arguments(node: fx.Node) -> list[fx.Node]:
    """The arguments of a node that are tensors, those in lists too."""
    return [arg for arg in node.all_input_nodes if is_tensor(arg)]
